"""`tiebreak report`: one HTML page about results folders."""

from __future__ import annotations

import argparse
from pathlib import Path

from tiebreak.commands.options import Parser, print_losses
from tiebreak.core.errors import UsageError
from tiebreak.core.files import refuse_input


def parser() -> Parser:
    """Return the parser of `tiebreak report`."""
    out = Parser(
        "report",
        "Write one HTML page about one or several results folders, or about training runs. It\n"
        "loads nothing and runs nothing, so that it can be mailed. Several folders stand side by\n"
        "side and are never pooled. A self-test of the same machine is named with a benchmark if\n"
        "its folder is given, or lies next to the benchmark's.",
        [
            "tiebreak report bench-results/quick-20260101-120000",
            "tiebreak report results/laptop results/server -o both.html",
            "tiebreak report results/quick results/self-test -o quick.html",
            "tiebreak report runs/sac-s0 runs/sac-s1",
        ],
    )
    out.add_argument(
        "directories",
        nargs="+",
        metavar="DIR",
        help="folders of `tiebreak run`, or of `tiebreak train`; or one of `tiebreak study`",
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
    from tiebreak.report.learning import find_runs
    from tiebreak.report.training_page import write_training_page
    from tiebreak.studies.seeds import is_results

    folders = [Path(directory) for directory in args.directories]
    refuse_input(Path(args.output), folders)
    if any(map(is_results, folders)):
        print(_write_evidence(args, folders))
        return 0
    if any(map(find_runs, folders)):
        if args.reference or args.assets:
            raise UsageError("--reference and --assets are for benchmarks; see: tiebreak plot")
        print(write_training_page(folders, Path(args.output)))
        return 0
    page = read_page(folders, args.reference)
    print_losses([view.data for view in page.folders])
    print(write_page(page, Path(args.output)))
    if args.assets:
        for file in write_assets(page, Path(args.assets)):
            print(file)
    return 0


def _write_evidence(args: argparse.Namespace, folders: list[Path]) -> Path:
    """Write the page about learning studies, and return its path."""
    from tiebreak.report.learning_evidence import write_evidence_page

    if len(folders) > 1 or args.reference or args.assets:
        raise UsageError(
            "a folder of `tiebreak study` has a page of its own: give it alone, without "
            "--reference and --assets"
        )
    return write_evidence_page(folders[0], Path(args.output))
