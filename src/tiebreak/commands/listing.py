"""`tiebreak list`: reads the registry and package metadata; imports no framework."""

from __future__ import annotations

import argparse
from typing import Any

import tiebreak
from tiebreak import registry
from tiebreak.commands.options import Parser, print_json
from tiebreak.commands.run import suites
from tiebreak.core.errors import unknown
from tiebreak.training.versions import versions


def parser() -> Parser:
    """What `tiebreak list` takes."""
    out = Parser(
        "list",
        "What is implemented, what is installed here, and how to install what is not.",
        [
            "tiebreak list",
            "tiebreak list --tasks",
            "tiebreak list --tasks gymnax",
            "tiebreak list --json",
        ],
    )
    out.add_argument(
        "--tasks",
        nargs="?",
        const="",
        metavar="ENGINE",
        help=f"the names of the tasks of one engine ({', '.join(registry.ENGINES)}) or of all",
    )
    out.add_json()
    return out


def run(args: argparse.Namespace) -> int:
    """Print tables, task names one per line, or JSON."""
    if args.tasks is not None:
        names = tasks(args.tasks)
        print_json(names) if args.json else print("\n".join(names))
    elif args.json:
        print_json(collect())
    else:
        _print(collect())
    return 0


def collect() -> dict[str, Any]:
    """Everything that `list` shows."""
    frameworks = {
        name: {
            **_installed(row.packages, row.extra),
            "runtime": row.runtime,
            "modes": list(row.modes),
            "default_mode": row.default_mode,
        }
        for name, row in registry.FRAMEWORKS.items()
    }
    algorithms = {
        name: [f for f in registry.FRAMEWORKS if (name, f) in registry.IMPLEMENTATIONS]
        for name in registry.ALGORITHMS
    }
    engines = {
        name: {
            **_installed(row.packages, row.extra),
            "kind": row.kind,
            "examples": list(row.examples),
        }
        for name, row in registry.ENGINES.items()
    }
    return {
        "version": tiebreak.__version__,
        "frameworks": frameworks,
        "algorithms": algorithms,
        "engines": engines,
        "suites": suites(),
    }


def _installed(packages: tuple[str, ...], extra: str) -> dict[str, Any]:
    absent = registry.missing_packages(packages)
    return {
        "installed": not absent,
        "versions": versions(packages),
        "missing": absent,
        "install": registry.install_command(extra) if absent else None,
    }


def tasks(engine: str = "") -> list[str]:
    """Names of an engine's tasks, or of those of every installed engine; imports the engine."""
    if engine and engine not in registry.ENGINES:
        raise unknown("engine", engine, registry.ENGINES)
    wanted = (
        [engine]
        if engine
        else [
            name
            for name, row in registry.ENGINES.items()
            if not registry.missing_packages(row.packages)
        ]
    )
    names = []
    for name in wanted:
        row = registry.ENGINES[name]
        registry.require_packages(f"engine {name!r}", row.packages, row.extra)
        names += [f"{name}/{task}" for task in registry.load(row.module).tasks()]
    return names


def install_commands(found: dict[str, Any]) -> list[str]:
    """One line for each framework and engine that is missing."""
    rows = {**found["frameworks"], **found.get("engines", {})}
    return [f"{name}: {row['install']}" for name, row in rows.items() if row.get("install")]


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("framework", "here", "modes (the default in brackets)", title="frameworks")
    for name, row in found["frameworks"].items():
        modes = [f"[{m}]" if m == row["default_mode"] else m for m in row["modes"]]
        table.add_row(name, _here(row), _plain(" ".join(modes)))
    console.print(table)
    table = Table("algorithm", *found["frameworks"], title="algorithms")
    for name, having in found["algorithms"].items():
        table.add_row(name, *("yes" if f in having else "–" for f in found["frameworks"]))
    console.print(table)
    table = Table("engine", "here", "runs on", "tasks, for example", title="engines")
    for name, row in found["engines"].items():
        table.add_row(name, _here(row), row["kind"], "\n".join(row["examples"]))
    console.print(table)
    for command in install_commands(found):
        print(command)  # not through the console, which would break it at the screen's edge
    table = Table("suite", "what it is (tiebreak run SUITE)", title="suites")
    for name, about in found["suites"].items():
        table.add_row(name, _plain(about))
    console.print(table)
    console.print("All tasks: tiebreak list --tasks. Train: tiebreak train --help.")


def _here(row: dict[str, Any]) -> Any:
    if not row["installed"]:
        return _plain("not installed")
    return _plain("\n".join(f"{package} {number}" for package, number in row["versions"].items()))


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)  # square brackets are markup otherwise
