"""`tiebreak compare`: two results folders, cell by cell."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tiebreak.commands.options import Failure, Parser, print_json
from tiebreak.core.errors import UsageError


def parser() -> Parser:
    """Return the parser of `tiebreak compare`."""
    out = Parser(
        "compare",
        "Compare two results folders, cell by cell: two commits, library versions or machines.\n"
        "On the same hardware each cell gets a ratio and a verdict; else values are listed only.",
        [
            "tiebreak compare results/before results/after",
            "tiebreak compare results/before results/after --fail-over 3% --fail-unsure",
            "tiebreak compare results/before results/after --markdown > comment.md",
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
    out.add_argument(
        "--fail-unsure",
        action="store_true",
        help="with --fail-over: exit with 3 if no cell fails it, but of one it cannot be told",
    )
    out.add_argument(
        "--markdown", action="store_true", help="print Markdown, for a comment on a pull request"
    )
    out.add_json()
    return out


def run(args: argparse.Namespace) -> int:
    """Print the comparison; raise Failure if a cell fails the limit of --fail-over."""
    from tiebreak.report.compare_tables import failure, unsure
    from tiebreak.stats import regression_limit
    from tiebreak.stats.compare import compare

    if args.fail_unsure and args.fail_over is None:
        raise UsageError("--fail-unsure needs a limit: add --fail-over, e.g. --fail-over 3%")
    if args.json and args.markdown:
        raise UsageError("--json and --markdown are two formats: use one of them")
    limit = None if args.fail_over is None else regression_limit.parse_limit(args.fail_over)
    folders = (args.baseline, args.candidate)
    compared = compare(
        _records(args.baseline), _records(args.candidate), relative_to=args.relative_to
    )
    check = None if limit is None else regression_limit.check_limit(compared, limit)
    _print(args, compared, folders, check)
    if check and not check.passed:
        raise Failure(failure(check))
    if check and check.unsure and args.fail_unsure:
        raise Failure(unsure(check), status=3)
    return 0


def _print(args: argparse.Namespace, compared: Any, folders: tuple[str, str], check: Any) -> None:
    """Print the comparison in the format that was asked for."""
    if args.json:
        from tiebreak.report.compare_json import to_json

        print_json(to_json(compared, folders, check))
    elif args.markdown:
        from tiebreak.report.compare_markdown import to_markdown

        print(to_markdown(compared, folders, check), end="")
    else:
        from rich.console import Console

        from tiebreak.report.compare_tables import print_compared

        print_compared(compared, folders, check, Console())


def _records(folder: str) -> list[dict[str, Any]]:
    """Read a folder's intact records; report left-out ones on stderr, so that JSON stays valid."""
    from tiebreak.bench.manager.store import read_log

    log = read_log(folder, for_tables=True)
    if loss := log.loss():
        print(f"tiebreak: {folder}: {loss}", file=sys.stderr)
    return log.records
