"""`tiebreak verify`: prove that the frameworks compute the same numbers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tiebreak import registry
from tiebreak.commands.options import Failure, Parser, print_json
from tiebreak.core.errors import UsageError


def parser() -> Parser:
    """Return the parser of `tiebreak verify`."""
    out = Parser(
        "verify",
        "Prove that the frameworks compute the same numbers: each runs in its own process and is\n"
        "compared with a float64 oracle. Exits with 1 unless all errors are within their bounds.",
        [
            "tiebreak verify",
            "tiebreak verify --algorithm ppo --framework torch --framework nnx",
            "tiebreak verify --quick --json -o certificate.json",
        ],
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
    for name in args.algorithm or ():
        registry.algorithm(name)
    for name in args.framework or ():
        registry.framework(name)
    out = Path(args.output) if args.output else None
    if out and (out.is_dir() or not out.absolute().parent.is_dir()):
        raise UsageError(
            f"cannot write a file at {str(out)!r}; name a file in a folder that exists"
        )
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
