"""`tiebreak history`: a cell's ratio over commits or versions, with the changes marked."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tiebreak.commands.options import Parser, print_json
from tiebreak.core.errors import UsageError
from tiebreak.core.files import write_atomic

if TYPE_CHECKING:
    from tiebreak.report.history import History

FILES = (".svg", ".png")


def parser() -> Parser:
    """Return the parser of `tiebreak history`."""
    out = Parser(
        "history",
        "Follow each cell's speed relative to its group's reference over results folders of one\n"
        "suite, in the order given: commits or versions, the earliest first. Marks where a ratio\n"
        "changed, and says what else differs there.",
        [
            "tiebreak history results/v1 results/v2 results/v3",
            "tiebreak history results/nightly-* -o history.svg",
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
    out.add_argument("-o", metavar="FILE", dest="out", type=Path, help="also draw FILE.svg or .png")
    out.add_json()
    return out


def run(args: argparse.Namespace) -> int:
    """Print the table and the changes, and write the chart that was asked for."""
    from rich.console import Console

    from tiebreak.report.history import print_history, read_history, to_json

    if args.out and args.out.suffix not in FILES:
        raise UsageError(f"-o takes a file that ends in .svg or .png, got {str(args.out)!r}")
    history = read_history(args.directories, args.relative_to)
    for folder in history.folders:
        if folder.loss:
            print(f"tiebreak: {folder.name}: {folder.loss}", file=sys.stderr)
    if args.json:
        print_json(to_json(history))
    else:
        print_history(history, Console())
    if args.out:
        _draw(history, args.out)
        print(f"chart: {args.out}", file=sys.stderr if args.json else sys.stdout)
    return 0


def _draw(history: History, out: Path) -> None:
    from tiebreak.report import history_chart

    draw = history_chart.to_png if out.suffix == ".png" else history_chart.to_svg
    try:
        write_atomic(out, draw(history))
    except OSError as error:
        raise UsageError(f"cannot write {str(out)!r}: {error.strerror}") from error
