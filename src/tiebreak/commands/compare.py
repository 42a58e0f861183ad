"""`tiebreak compare`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tiebreak.commands.options import Failure, Parser, print_json


def parser() -> Parser:
    """What `tiebreak compare` takes."""
    out = Parser(
        "compare",
        "Compare two folders of results, cell by cell: two commits, library versions, machines.\n"
        "Runs on the same hardware get a ratio and a verdict; others stand side by side.",
        [
            "tiebreak compare results/before results/after",
            "tiebreak compare results/before results/after --fail-over 3%",
            "tiebreak compare results/torch-2.12 results/torch-2.13 --relative-to linen",
        ],
    )
    out.add_argument("baseline", metavar="A", help="folder of `tiebreak run`: what was before")
    out.add_argument("candidate", metavar="B", help="folder of `tiebreak run`: what is new")
    out.add_argument(
        "--relative-to",
        metavar="CELL",
        help="label or framework that the change does not concern: take all speeds relative to its",
    )
    out.add_argument(
        "--fail-over",
        metavar="SHARE",
        help="exit with 1 if a cell is SLOWER by more than this (3%% or 0.03), or broke",
    )
    out.add_json()
    return out


def run(args: argparse.Namespace) -> int:
    """Print the comparison; status 1 when --fail-over is given and something is worse."""
    from tiebreak.report.compare_json import to_json
    from tiebreak.report.compare_tables import failure, print_compared
    from tiebreak.stats import regression_limit
    from tiebreak.stats.compare import compare

    limit = None if args.fail_over is None else regression_limit.parse(args.fail_over)
    folders = (args.baseline, args.candidate)
    compared = compare(*(_records(folder) for folder in folders), relative_to=args.relative_to)
    result = None if limit is None else regression_limit.gate(compared, limit)
    if args.json:
        print_json(to_json(compared, folders, result))
    else:
        from rich.console import Console

        print_compared(compared, folders, result, Console())
    if result and not result.passed:
        raise Failure(failure(result))
    return 0


def _records(folder: str) -> list[dict[str, Any]]:
    """A folder's intact records; what is left out is said on stderr, where it harms no JSON."""
    from tiebreak.bench.manager.store import read_log
    from tiebreak.report.phrases import plural

    log = read_log(folder)
    if lost := len(log.corrupt) + log.newer:
        print(
            f"tiebreak: {folder}: left out {plural(lost, 'record')}, damaged or of a later version",
            file=sys.stderr,
        )
    return log.records
