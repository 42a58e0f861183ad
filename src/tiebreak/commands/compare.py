"""`tiebreak compare`: two results folders, cell by cell."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tiebreak.commands.options import Failure, Parser, print_json
from tiebreak.core.text import plural


def parser() -> Parser:
    """Return the parser of `tiebreak compare`."""
    out = Parser(
        "compare",
        "Compare two results folders, cell by cell: two commits, library versions or machines.\n"
        "On the same hardware each cell gets a ratio and a verdict; else values are listed only.",
        [
            "tiebreak compare results/before results/after",
            "tiebreak compare results/before results/after --fail-over 3%",
            "tiebreak compare results/torch-2.12 results/torch-2.13 --relative-to linen",
        ],
    )
    out.add_argument("baseline", metavar="A", help="results folder of `tiebreak run`: the baseline")
    out.add_argument(
        "candidate", metavar="B", help="results folder of `tiebreak run`: the candidate"
    )
    out.add_argument(
        "--relative-to",
        metavar="CELL",
        help="label or framework of a cell that did not change: take all speeds relative to it",
    )
    out.add_argument(
        "--fail-over",
        metavar="SHARE",
        help="exit with 1 if a cell is SLOWER by more than this (3%% or 0.03), or broke",
    )
    out.add_json()
    return out


def run(args: argparse.Namespace) -> int:
    """Print the comparison; raise Failure if a cell fails the limit of --fail-over."""
    from tiebreak.report.compare_json import to_json
    from tiebreak.report.compare_tables import failure, print_compared
    from tiebreak.stats import regression_limit
    from tiebreak.stats.compare import compare

    limit = None if args.fail_over is None else regression_limit.parse_limit(args.fail_over)
    folders = (args.baseline, args.candidate)
    compared = compare(
        _records(args.baseline), _records(args.candidate), relative_to=args.relative_to
    )
    check = None if limit is None else regression_limit.check_limit(compared, limit)
    if args.json:
        print_json(to_json(compared, folders, check))
    else:
        from rich.console import Console

        print_compared(compared, folders, check, Console())
    if check and not check.passed:
        raise Failure(failure(check))
    return 0


def _records(folder: str) -> list[dict[str, Any]]:
    """Read a folder's intact records; report left-out ones on stderr, so that JSON stays valid."""
    from tiebreak.bench.manager.store import read_log

    log = read_log(folder)
    if lost := len(log.corrupt) + log.newer:
        print(
            f"tiebreak: {folder}: left out {plural(lost, 'record')}, damaged or of a later version",
            file=sys.stderr,
        )
    return log.records
