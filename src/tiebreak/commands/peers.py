"""`tiebreak peers`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from tiebreak.commands.options import Parser, print_json
from tiebreak.core.errors import UsageError
from tiebreak.peers import environments
from tiebreak.peers.table import PEERS

ACTIONS = ("list", "install", "remove", "show")


def parser() -> Parser:
    """Return the parser of `tiebreak peers`."""
    out = Parser(
        "peers",
        "List other libraries that can be contestants of a race, and install them. Each gets an\n"
        "environment of its own, which uses torch, JAX and NumPy of Tiebreak's. Nothing proves\n"
        "that they compute what Tiebreak's agents compute; `show` says in what they differ.",
        [
            "tiebreak peers",
            "tiebreak peers install sb3",
            "tiebreak peers install cleanrl --checkout cleanrl=../cleanrl",
            "tiebreak peers show sb3",
            "tiebreak run peers",
        ],
    )
    out.add_argument(
        "action", nargs="?", default="list", metavar="ACTION", help=f"{', '.join(ACTIONS)}"
    )
    out.add_argument("names", nargs="*", metavar="PEER", help=", ".join(PEERS))
    out.add_argument(
        "--checkout",
        action="append",
        default=[],
        metavar="PEER=DIR",
        help="with install: the clone of a library that is no package",
    )
    out.add_json()
    return out


def run(args: argparse.Namespace) -> int:
    """List, install, remove or show peers."""
    if args.action not in ACTIONS:
        raise UsageError(f"peers takes {', '.join(ACTIONS)}, got {args.action!r}")
    for name in args.names:
        environments.require_known(name)
    checkouts = _checkouts(args)
    if args.action in ("install", "remove") and not args.names:
        raise UsageError(f"{args.action} what? One or more of {', '.join(PEERS)}")
    if args.action == "install":
        _install(args.names, checkouts)
    elif args.action == "remove":
        _remove(args.names)
    elif args.json:
        print_json([_describe(name) for name in args.names or PEERS])
    elif args.action == "show":
        _show(args.names or list(PEERS))
    else:
        _list(args.names or list(PEERS))
    return 0


def _checkouts(args: argparse.Namespace) -> dict[str, str]:
    """Return peer -> folder, of the options `--checkout PEER=DIR`."""
    if args.checkout and args.action != "install":
        raise UsageError("--checkout goes with install")
    checkouts = {}
    for given in args.checkout:
        name, equals, folder = given.partition("=")
        if not (equals and folder):
            raise UsageError(f"--checkout takes PEER=DIR, got {given!r}")
        environments.require_known(name)
        if name not in args.names:
            raise UsageError(f"--checkout names {name}, which is not installed: add it to install")
        checkouts[name] = folder
    return checkouts


def _install(names: Sequence[str], checkouts: dict[str, str]) -> None:
    for name in names:
        environments.install(name, checkouts.get(name, ""))
    print(f"installed: {', '.join(names)}; race against them: tiebreak run peers")


def _remove(names: Sequence[str]) -> None:
    for name in names:
        removed = environments.remove(name)
        print(f"{name}: {'removed' if removed else 'was not installed'}")


def _describe(name: str) -> dict[str, Any]:
    """Return everything about a peer, and its state here."""
    peer = PEERS[name]
    reason = environments.why_unavailable(name)
    return {
        "name": name,
        **peer._asdict(),
        "installed": not reason,
        "missing": reason,
        "folder": str(environments.folder(name)),
        "checkout": environments.checkout(name),
    }


def _list(names: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("peer", "library", "version", "algorithms", "here", title="peers")
    for name in names:
        peer = PEERS[name]
        state = "no" if environments.why_unavailable(name) else "installed"
        table.add_row(name, Text(peer.title), peer.version, ", ".join(peer.games), state)
    Console().print(table)
    for name in names:
        if reason := environments.why_unavailable(name):
            print(reason)


def _show(names: Sequence[str]) -> None:
    for name in names:
        peer = PEERS[name]
        print(f"{name}: {peer.title} {peer.version}, {peer.url}")
        print(f"  here: {environments.why_unavailable(name) or environments.folder(name)}")
        for algorithm, engines in peer.games.items():
            differs = peer.differences.get(algorithm, "no difference is known")
            print(f"  {algorithm} on {', '.join(engines)}: {differs}")
