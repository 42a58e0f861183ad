"""`tiebreak history`: a cell's ratio over commits or versions, with the changes marked."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tiebreak.commands.options import Parser, print_json
from tiebreak.core.errors import UsageError
from tiebreak.core.files import refuse_input, write_atomic

if TYPE_CHECKING:
    from tiebreak.report.history import History

FILES = {".html": "page", ".svg": "chart", ".png": "chart", ".csv": "table"}
"""Ending of a file -> what is written there."""


def parser() -> Parser:
    """Return the parser of `tiebreak history`."""
    out = Parser(
        "history",
        "Follow each cell's speed relative to its group's reference over results folders of one\n"
        "suite: commits or versions, in the order of the days on which they were measured. Marks\n"
        "where a ratio changed, and says what else differs there.",
        [
            "tiebreak history results/nightly-*",
            "tiebreak history results/nightly-* -o history.html",
            "tiebreak history results/v1-again results/v2 results/v3 --as-given",
            "tiebreak history results/nightly-* --relative-to linen --json",
        ],
    )
    out.add_argument(
        "directories", nargs="+", metavar="DIR", type=Path, help="results folders of `tiebreak run`"
    )
    out.add_argument(
        "--relative-to",
        metavar="CELL",
        help="label or framework of the cell that ratios are relative to; default: torch, or the "
        "first by label",
    )
    out.add_argument(
        "--as-given",
        action="store_true",
        help="keep the order in which the folders are given; default: by the date of the first run",
    )
    out.add_argument(
        "-o",
        metavar="FILE",
        dest="out",
        type=Path,
        help="also write FILE.html, a page; .svg or .png, a chart; or .csv, every ratio",
    )
    out.add_json()
    return out


def run(args: argparse.Namespace) -> int:
    """Print the table and the changes, and write the file that was asked for."""
    from rich.console import Console

    from tiebreak.report.history import read_history
    from tiebreak.report.history_tables import print_history, to_json

    if args.out and args.out.suffix not in FILES:
        raise UsageError(
            f"-o takes a file that ends in .html, .svg, .png or .csv, got {str(args.out)!r}"
        )
    if args.out:
        refuse_input(args.out, args.directories)
    history = read_history(args.directories, args.relative_to, args.as_given)
    for note in history.notes:
        print(f"tiebreak: {note}", file=sys.stderr)
    if args.json:
        print_json(to_json(history))
    else:
        print_history(history, Console())
    if args.out:
        _write(history, args.out)
        kind = FILES[args.out.suffix]
        print(f"{kind}: {args.out}", file=sys.stderr if args.json else sys.stdout)
    return 0


def _write(history: History, out: Path) -> None:
    """Write the file, of the kind that its name says."""
    from tiebreak.report import assets, history_chart, history_page, history_tables

    if out.suffix == ".html":
        content: str | bytes = history_page.to_html(history)
    elif out.suffix == ".csv":
        content = assets.to_csv(history_tables.to_rows(history))
    elif out.suffix == ".png":
        content = history_chart.to_png(history)
    else:
        content = history_chart.to_svg(history)
    try:
        write_atomic(out, content)
    except OSError as error:
        raise UsageError(f"cannot write {str(out)!r}: {error.strerror}") from error
