"""`tiebreak report`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tiebreak.commands.options import Parser


def parser() -> Parser:
    """What `tiebreak report` takes."""
    out = Parser(
        "report",
        "Write one HTML page, readable offline, about one or several folders of results.",
        [
            "tiebreak report results/quick-20260101",
            "tiebreak report results/laptop results/server -o both.html",
        ],
    )
    out.add_argument("directories", nargs="+", metavar="DIR", help="folders of `tiebreak run`")
    out.add_argument("-o", "--output", default="report.html", metavar="FILE", help="report.html")
    return out


def run(args: argparse.Namespace) -> int:
    """Write the page and print its path."""
    from tiebreak.report.html import write_report

    print(write_report([Path(d) for d in args.directories], Path(args.output)))
    return 0
