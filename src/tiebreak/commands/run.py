"""`tiebreak run`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tiebreak.bench.suite import suite
from tiebreak.commands.options import Failure, Parser, print_json
from tiebreak.core.errors import UsageError, unknown

SELF_TEST = "self-test"


def parser() -> Parser:
    """What `tiebreak run` takes."""
    out = Parser(
        "run",
        "Race the frameworks: every cell of a suite in fresh processes, interleaved in blocks.\n"
        f"{SELF_TEST} tests the stopwatch itself. Without a suite: which ones there are.",
        [
            "tiebreak run quick",
            "tiebreak run --example > my-suite.toml",
            "tiebreak run my-suite.toml --dry-run",
            "tiebreak run self-test --only faults,writers --out results/self-test",
        ],
    )
    out.add_argument(
        "suite", nargs="?", help=f"{', '.join(suites())}, or the path of a .toml file of your own"
    )
    out.add_argument("--out", metavar="DIR", type=Path, help="folder of the results")
    out.add_argument("--resume", action="store_true", help="run what is missing in --out")
    out.add_argument(
        "--scale", metavar="SCALE", help=f"{', '.join(suite.SCALES)}; how much is measured"
    )
    out.add_argument(
        "--device", metavar="DEVICE", help="measure on cpu, gpu or cuda:1, whatever the suite names"
    )
    out.add_argument("--dry-run", action="store_true", help="show cells, visits and time; run none")
    out.add_argument("--seed", metavar="N", type=int, help="repeat the order of an earlier run")
    out.add_argument("--only", metavar="ROW[,ROW]", help=f"rows of {SELF_TEST}")
    out.add_argument("--example", action="store_true", help="print a suite file to begin with")
    out.add_json()
    return out


def suites() -> dict[str, str]:
    """What can be run by name -> what it is."""
    return {**suite.descriptions(), SELF_TEST: "does the stopwatch tell the truth? Its own tests"}


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write the report; status 1 when something of it failed."""
    _check(args)
    if args.example:
        print(suite.example(), end="")
    elif args.suite is None:
        _print_suites(args.json)
    elif args.suite == SELF_TEST:
        _run_self_test(args)
    elif args.dry_run:
        from tiebreak.commands import dry_run

        dry_run.show(args.suite, args.scale, args.device, args.json)
    else:
        _run_suite(args)
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse options that mean nothing together."""
    names = suites()
    given = {name for name, value in vars(args).items() if value is not None and value is not False}
    given -= {"json"}
    if args.suite is None and (extra := sorted(given - {"example"})):
        raise UsageError(f"{_option(extra[0])} needs a suite: {', '.join(names)}, or a .toml file")
    if args.suite is not None and args.example:
        raise UsageError("--example prints a file to begin with: leave the suite out")
    if args.suite and not args.suite.endswith(".toml") and args.suite not in names:
        raise unknown("suite", args.suite, names, "(or give the path of a .toml file)")
    wrong = {"seed", "device", "dry_run"} if args.suite == SELF_TEST else {"only"}
    if extra := sorted(wrong & given):
        raise UsageError(f"{_option(extra[0])} does not go with suite {args.suite!r}")
    if args.resume and (extra := sorted({"seed", "dry_run"} & given)):
        raise UsageError(f"{_option(extra[0])} does not go with --resume, which has what it needs")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _print_suites(json: bool) -> None:
    if json:
        print_json(suites())
        return
    print("suites, to be run with `tiebreak run SUITE`:")
    for name, about in {**suites(), "FILE.toml": "your own: tiebreak run --example"}.items():
        print(f"  {name:<10} {about}")


def _run_suite(args: argparse.Namespace) -> None:
    from tiebreak.bench.manager.manager import run_suite
    from tiebreak.bench.manager.store import read_records, read_suite
    from tiebreak.report.html import write_report
    from tiebreak.report.tables import print_summary, sheets_json, to_json
    from tiebreak.stats.ratios import summarize

    asked = {"seed": args.seed, "device": args.device}
    folder = run_suite(args.suite, args.out, args.scale, args.resume, **asked)
    records = read_records(folder)
    report = write_report([folder], folder / "report.html")
    groups, elsewhere = summarize(records), read_suite(folder).get("published", [])
    if args.json:
        about = {"results": folder, "report": report, "groups": to_json(groups)}
        print_json({**about, "sheets": sheets_json(groups, elsewhere)})
    else:
        from rich.console import Console

        print_summary(groups, Console(), elsewhere)
        print(f"report: {report}")
    _fail(list(_failures(records)))


def _run_self_test(args: argparse.Namespace) -> None:
    from rich.console import Console

    from tiebreak.bench.manager.store import read_records
    from tiebreak.report.html import write_report
    from tiebreak.selftest.run import run as run_rows
    from tiebreak.selftest.show import failures, print_rows

    only = [name.strip() for name in args.only.split(",")] if args.only else None
    folder = run_rows(args.out, args.scale, only, args.resume)
    rows = [r for r in read_records(folder) if r["kind"] == "selftest"]
    report = write_report([folder], folder / "report.html")
    if args.json:
        print_json({"results": folder, "report": report, "rows": rows})
    else:
        print_rows(rows, Console())
        print(f"report: {report}")
    _fail(failures(rows))


def _fail(wrong: list[str]) -> None:
    """Status 1, and the first reason, where there is one."""
    if wrong:
        raise Failure(f"{wrong[0]}{f' (and {len(wrong) - 1} more)' if wrong[1:] else ''}")


def _failures(records: list[dict[str, Any]]) -> Iterator[str]:
    """What failed in a run; what is not installed is missing, not failed."""
    for record in records:
        if record["kind"] == "certificate" and not record["certificate"]["green"]:
            yield "the frameworks do not compute the same numbers: see `tiebreak verify`"
        if record["kind"] == "visit" and record["status"] not in ("ok", "missing"):
            cell = f"{record['group']}, {record['cell']['label']}"
            yield f"{cell}: {record['status']}: {record['error']}"
