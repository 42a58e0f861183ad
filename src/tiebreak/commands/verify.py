"""`tiebreak verify`: prove that the frameworks compute the same numbers."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

from tiebreak import registry
from tiebreak.commands.options import Failure, Parser, print_json
from tiebreak.core.errors import UsageError
from tiebreak.core.files import write_json


def parser() -> Parser:
    """Return the parser of `tiebreak verify`."""
    out = Parser(
        "verify",
        "Prove that the frameworks compute the same numbers: each runs in its own process and is\n"
        "compared with a float64 oracle. Exits with 1 unless all errors are within their bounds.\n"
        "With --against, compare an implementation of your own (docs/verify-yours.md).",
        [
            "tiebreak verify",
            "tiebreak verify --algorithm ppo --framework torch --framework nnx",
            "tiebreak verify --quick --json -o certificate.json",
            "tiebreak verify --against sac my_module:Agent",
        ],
    )
    out.add_argument(
        "agents",
        nargs="*",
        metavar="AGENT",
        help="with --against: your class, module:Class or file.py:Class; two are compared with "
        "each other, too",
    )
    out.add_argument(
        "--against",
        metavar="ALGORITHM",
        help="compare AGENT with the oracle of this algorithm, term by term",
    )
    for name, table in (("algorithm", registry.ALGORITHMS), ("framework", registry.FRAMEWORKS)):
        out.add_argument(
            f"--{name}",
            action="append",
            metavar="NAME",
            help=f"{', '.join(table)}; may be repeated; default: all",
        )
    out.add_argument(
        "--quick", action="store_true", help="fewer cases, a minute instead of several"
    )
    out.add_argument("-o", "--output", metavar="FILE", help="write the certificate (JSON) here")
    out.add_json()
    return out


def run(args: argparse.Namespace) -> int:
    """Verify and print the certificate; raise Failure unless every check passed."""
    if args.agents or args.against:
        return _run_against(args)
    for name in args.algorithm or ():
        registry.algorithm(name)
    for name in args.framework or ():
        registry.framework(name)
    for pair in itertools.product(args.algorithm or (), args.framework or ()):
        registry.require_implementation(*pair)
    out = _output(args)
    from tiebreak.bench.manager.certificates import keep_certificate
    from tiebreak.verify.certify import certify, print_certificate

    certificate = certify(
        args.algorithm or list(registry.ALGORITHMS),
        args.framework or list(registry.FRAMEWORKS),
        out=out,
        progress=True,
        quick=args.quick,
    )
    keep_certificate(certificate)
    if args.json:
        print_json(certificate)
    else:
        from rich.console import Console

        print_certificate(certificate, Console())
    if not certificate["green"]:
        raise Failure(_worst(certificate))
    return 0


def _run_against(args: argparse.Namespace) -> int:
    """Compare agents of the user's with an oracle; raise Failure unless they agree."""
    if not args.against:
        raise UsageError(
            f"{args.agents[0]!r} is no option: --against ALGORITHM compares an agent of yours, "
            "--algorithm NAME chooses what is verified"
        )
    if not args.agents:
        raise UsageError(f"name your class: tiebreak verify --against {args.against} module:Class")
    for name in ("algorithm", "framework", "quick"):
        if getattr(args, name):
            raise UsageError(f"--{name} is for certificates of the frameworks, not for --against")
    out = _output(args)
    from tiebreak.verify.against.check import check_agents, decisive_comparisons
    from tiebreak.verify.against.show import lines_of, print_result

    result = check_agents(args.against, args.agents)
    if out:
        write_json(out, result)
    if args.json:
        print_json(result)
    else:
        from rich.console import Console

        print_result(result, Console())
    if not result["green"]:
        decisive = decisive_comparisons(result["comparisons"])
        different = next(c for c in decisive if c["first"])
        raise Failure(f"not the same numbers: {lines_of(different)[0]}")
    return 0


def _output(args: argparse.Namespace) -> Path | None:
    """Return the file to write; raise UsageError if it cannot be one."""
    out = Path(args.output) if args.output else None
    if out and (out.is_dir() or not out.absolute().parent.is_dir()):
        raise UsageError(
            f"cannot write a file at {str(out)!r}; name a file in a folder that exists"
        )
    return out


def _worst(certificate: dict[str, Any]) -> str:
    failed = [row for row in certificate["rows"] if not row["ok"]]
    if not failed:
        return "not verified: no framework could be checked (`tiebreak list` says what is missing)"
    row = max(failed, key=lambda r: r["worst"] / r["bound"] if r["bound"] else 0.0)
    return (
        f"not the same numbers: {len(failed)} of {len(certificate['rows'])} checks failed, worst "
        f"{row['framework']} {row['mode']} {row['precision']} {row['rung']} {row['quantity']}: "
        f"{row['worst']:.1e}, bound {row['bound']:.1e} ({row['case']})"
    )
