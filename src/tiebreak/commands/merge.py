"""`tiebreak merge`: put results folders of one suite together."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tiebreak.commands.options import Parser, print_json, quoted


def parser() -> Parser:
    """Return the parser of `tiebreak merge`."""
    out = Parser(
        "merge",
        "Put results folders of one suite together in a new one: shares of its blocks, or the\n"
        "same suite from several machines. Blocks with one fingerprint are pooled; machines with\n"
        "others stand side by side. The folders stay as they are.",
        [
            "tiebreak merge results/left results/right",
            "tiebreak merge results/laptop results/server --out results/both",
        ],
    )
    out.add_argument(
        "directories", nargs="+", metavar="DIR", type=Path, help="results folders of `tiebreak run`"
    )
    out.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        help="the new folder; default: bench-results/SUITE-merged-DATE",
    )
    out.add_json()
    return out


def run(args: argparse.Namespace) -> int:
    """Write the new folder and its report, and print its answer."""
    from tiebreak.bench.hosts.merge import merge
    from tiebreak.commands import show
    from tiebreak.report.html import write_page
    from tiebreak.report.page import arrange
    from tiebreak.report.page_data import read_folders

    folder, parts = merge(args.directories, args.out)
    for part in parts:
        if part.loss:
            print(f"tiebreak: {part.name}: {part.loss}", file=sys.stderr)
    folders = read_folders([folder])
    report = write_page(arrange(folders), folder / "report.html")
    if args.json:
        print_json({"results": folder, "report": report, **show.document(folders[0])})
    else:
        show.print_results(folders[0], tables=False)
        print(f"results: {quoted(folder)}")
        print(f"report: {report}")
    return 0
