"""`tiebreak report`: one HTML page about results folders."""

from __future__ import annotations

import argparse
from pathlib import Path

from tiebreak.commands.options import Parser


def parser() -> Parser:
    """Return the parser of `tiebreak report`."""
    out = Parser(
        "report",
        "Write one HTML page, readable offline, about one or several results folders. Folders are\n"
        "shown one after the other and never pooled. A self-test of the same machine is named\n"
        "with a benchmark if its folder is given, or lies next to the benchmark's.",
        [
            "tiebreak report bench-results/quick-20260101-120000",
            "tiebreak report results/laptop results/server -o both.html",
            "tiebreak report results/quick results/self-test -o quick.html",
            "tiebreak report results/quick --reference linen",
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
    return out


def run(args: argparse.Namespace) -> int:
    """Write the page and print its path."""
    from tiebreak.report.html import write_report

    folders = [Path(d) for d in args.directories]
    print(write_report(folders, Path(args.output), args.reference))
    return 0
