"""`tiebreak run`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tiebreak.bench import suite
from tiebreak.commands.options import Failure, Parser, print_json


def parser() -> Parser:
    """What `tiebreak run` takes."""
    out = Parser(
        "run",
        "Race the frameworks: every cell of a suite in fresh processes, interleaved in blocks.",
        [
            "tiebreak run quick",
            "tiebreak run quick --scale smoke --out results/try",
            "tiebreak run quick --out results/try --resume",
        ],
    )
    out.add_argument("suite", help=f"{', '.join(suite.names())}, or the path of a .toml file")
    out.add_argument("--out", metavar="DIR", type=Path, help="folder of the results")
    out.add_argument("--resume", action="store_true", help="run what is missing in --out")
    out.add_argument(
        "--scale", metavar="SCALE", help=f"{', '.join(suite.SCALES)}; how much is measured"
    )
    out.add_json()
    return out


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write the report; status 1 when something of it failed."""
    from tiebreak.bench.manager import run_suite
    from tiebreak.bench.store import read_records
    from tiebreak.report.html import write_report
    from tiebreak.report.tables import print_summary, to_json
    from tiebreak.stats.ratios import summarize

    folder = run_suite(args.suite, args.out, args.scale, args.resume)
    records = read_records(folder)
    report = write_report([folder], folder / "report.html")
    if args.json:
        print_json({"results": folder, "report": report, "groups": to_json(summarize(records))})
    else:
        from rich.console import Console

        print_summary(summarize(records), Console())
        print(f"report: {report}")
    if wrong := list(_failures(records)):
        raise Failure(f"{wrong[0]}{f' (and {len(wrong) - 1} more)' if wrong[1:] else ''}")
    return 0


def _failures(records: list[dict[str, Any]]) -> Iterator[str]:
    """What failed in a run; what is not installed is missing, not failed."""
    for record in records:
        if record["kind"] == "certificate" and not record["certificate"]["green"]:
            yield "the frameworks do not compute the same numbers: see `tiebreak verify`"
        if record["kind"] == "visit" and record["status"] not in ("ok", "missing"):
            cell = f"{record['group']}, {record['cell']['label']}"
            yield f"{cell}: {record['status']}: {record['error']}"
