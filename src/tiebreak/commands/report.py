"""`tiebreak report`: one HTML page about results folders."""

from __future__ import annotations

import argparse
from pathlib import Path

from tiebreak.commands.options import Parser, print_losses
from tiebreak.core.files import refuse_input


def parser() -> Parser:
    """Return the parser of `tiebreak report`."""
    out = Parser(
        "report",
        "Write one HTML page about one or several results folders. It loads nothing and runs\n"
        "nothing, so that it can be mailed. Several folders stand side by side and are never\n"
        "pooled. A self-test of the same machine is named with a benchmark if its folder is\n"
        "given, or lies next to the benchmark's.",
        [
            "tiebreak report bench-results/quick-20260101-120000",
            "tiebreak report results/laptop results/server -o both.html",
            "tiebreak report results/quick results/self-test -o quick.html",
            "tiebreak report results/quick --assets figures",
        ],
    )
    out.add_argument(
        "directories", nargs="+", metavar="DIR", help="results folders of `tiebreak run`"
    )
    out.add_argument(
        "-o",
        "--output",
        default="report.html",
        metavar="FILE",
        help="where to write the page; default: report.html",
    )
    out.add_argument(
        "--reference",
        metavar="LABEL",
        help="label or framework of the cell that ratios are relative to; default: torch, or the "
        "first by label",
    )
    out.add_argument(
        "--assets",
        metavar="DIR",
        help="also write the charts as SVG and PNG, and the tables as CSV, into this folder",
    )
    return out


def run(args: argparse.Namespace) -> int:
    """Write the page and what else was asked for, and print the paths."""
    from tiebreak.report.assets import write_assets
    from tiebreak.report.html import read_page, write_page

    refuse_input(Path(args.output), [Path(d) for d in args.directories])
    page = read_page([Path(d) for d in args.directories], args.reference)
    print_losses([view.data for view in page.folders])
    print(write_page(page, Path(args.output)))
    if args.assets:
        for file in write_assets(page, Path(args.assets)):
            print(file)
    return 0
