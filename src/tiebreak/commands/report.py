"""`tiebreak report`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tiebreak.commands.options import Parser


def parser() -> Parser:
    """What `tiebreak report` takes."""
    out = Parser(
        "report",
        "Write one HTML page, readable offline, about one or several folders of results: races,\n"
        "leak probes and self-tests. Folders stand side by side and are never pooled. A self-test\n"
        "that is given, or lies next to a folder, is named in the race's headline.",
        [
            "tiebreak report bench-results/quick-20260101-120000",
            "tiebreak report results/laptop results/server -o both.html",
            "tiebreak report results/quick results/self-test -o quick.html",
            "tiebreak report results/quick --reference linen",
        ],
    )
    out.add_argument("directories", nargs="+", metavar="DIR", help="folders of `tiebreak run`")
    out.add_argument(
        "-o", "--output", default="report.html", metavar="FILE", help="the page; else report.html"
    )
    out.add_argument(
        "--reference",
        metavar="LABEL",
        help="a cell's label or a framework: what ratios are given against; else torch, or where "
        "it is absent the first by label",
    )
    return out


def run(args: argparse.Namespace) -> int:
    """Write the page and print its path."""
    from tiebreak.report.html import write_report

    folders = [Path(d) for d in args.directories]
    print(write_report(folders, Path(args.output), args.reference))
    return 0
