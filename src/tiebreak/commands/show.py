"""`tiebreak show`: the answer of a results folder, in the terminal or as text for elsewhere."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tiebreak.commands.options import Parser, print_json, print_losses
from tiebreak.core.errors import UsageError


def parser() -> Parser:
    """Return the parser of `tiebreak show`."""
    out = Parser(
        "show",
        "Show the answer of a results folder: who is fastest, by how much, how sure, and how\n"
        "long a million steps take. The page of `tiebreak report` says the same.",
        [
            "tiebreak show bench-results/quick-20260101-120000",
            "tiebreak show results/quick --tables",
            "tiebreak show results/quick --markdown > answer.md",
            "tiebreak show results/quick --csv tables",
        ],
    )
    out.add_argument("directory", metavar="DIR", type=Path, help="results folder of `tiebreak run`")
    out.add_argument("--tables", action="store_true", help="show the table of every group first")
    out.add_argument("--markdown", action="store_true", help="print GitHub Markdown")
    out.add_argument(
        "--csv", metavar="DIR", type=Path, help="write the tables as CSV files as well"
    )
    out.add_argument(
        "--reference",
        metavar="LABEL",
        help="label or framework of the cell that ratios are relative to; default: torch, or the "
        "first by label",
    )
    out.add_json()
    return out


def run(args: argparse.Namespace) -> int:
    """Print the answer."""
    if args.json and args.markdown:
        raise UsageError("--json and --markdown print different things: choose one of them")
    from tiebreak.report import assets, terminal
    from tiebreak.report.page import arrange
    from tiebreak.report.page_data import read_folders

    folders = read_folders([args.directory], args.reference)
    (data,) = folders
    print_losses(folders)
    if args.json:
        print_json({"results": args.directory, **document(data)})
    elif args.markdown:
        print(terminal.to_markdown(data.answer), end="")
    else:
        print_results(data, tables=args.tables)
    if args.csv:
        for file in assets.write_tables(arrange(folders), args.csv):
            print(file, file=sys.stderr)
    return 0


def print_results(data: Any, tables: bool) -> None:
    """Print the answer, after the tables of all groups if these are wanted.

    data: a PageData.
    """
    from rich.console import Console

    from tiebreak.report.tables import print_summary
    from tiebreak.report.terminal import print_answer

    console = Console()
    if tables:
        print_summary(data.groups, console, data.suite.get("published", []))
    print_answer(data.answer, console)


def document(data: Any) -> dict[str, Any]:
    """Return the answer, all groups and the cross tables as JSON-ready values.

    data: a PageData.
    """
    from tiebreak.report.answer import to_json as answer_json
    from tiebreak.report.tables import sheets_json, to_json

    return {
        "answer": answer_json(data.answer),
        "groups": to_json(data.groups),
        "sheets": sheets_json(data.groups, data.suite.get("published", [])),
    }
