"""`tiebreak run`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tiebreak.bench.suite import suite
from tiebreak.commands.options import Failure, Parser, print_json, quoted
from tiebreak.core.errors import UsageError, unknown

SELF_TEST = "self-test"


def parser() -> Parser:
    """Return the parser of `tiebreak run`."""
    out = Parser(
        "run",
        "Race the frameworks: every cell of a suite in fresh processes, interleaved in blocks.\n"
        f"{SELF_TEST} tests the measuring itself. Without a suite: list the suites.",
        [
            "tiebreak run quick",
            "tiebreak run --example > my-suite.toml",
            "tiebreak run my-suite.toml --scale full --on hosts.toml",
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
    out.add_argument("--dry-run", action="store_true", help="show cells, runs and time; run none")
    out.add_argument("--seed", metavar="N", type=int, help="repeat the order of an earlier run")
    _add_division(out)
    out.add_argument("--only", metavar="CHECK[,CHECK]", help=f"checks of {SELF_TEST}")
    out.add_argument("--example", action="store_true", help="print a suite file to begin with")
    out.add_json()
    return out


def _add_division(out: Parser) -> None:
    """Add the options that divide a suite's blocks."""
    out.add_argument(
        "--on",
        metavar="FILE",
        type=Path,
        help="run on the hosts of a .toml file, which divide the blocks (docs/benchmarks.md)",
    )
    out.add_argument(
        "--share",
        metavar="K/N",
        help="run one part of the blocks, such as 1/2; `tiebreak merge` puts the parts together",
    )


def suites() -> dict[str, str]:
    """Return name -> description of the suites that can be run by name."""
    return {**suite.descriptions(), SELF_TEST: "tests of the measuring itself"}


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write the report; exit with status 1 if something failed."""
    _check(args)
    if args.example:
        print(suite.example(), end="")
    elif args.suite is None:
        _print_suites(args.json)
    elif args.suite == SELF_TEST:
        _run_self_test(args)
    elif args.dry_run:
        from tiebreak.commands import dry_run

        dry_run.show(args.suite, args.scale, args.device, args.share, args.json)
    else:
        _run_suite(args)
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse options that contradict one another."""
    names = suites()
    given = {name for name, value in vars(args).items() if value is not None and value is not False}
    given -= {"json"}
    if args.suite is None and (extra := sorted(given - {"example"})):
        raise UsageError(f"{_option(extra[0])} needs a suite: {', '.join(names)}, or a .toml file")
    if args.suite is not None and args.example:
        raise UsageError("--example prints a file to begin with: leave the suite out")
    if args.suite and not args.suite.endswith(".toml") and args.suite not in names:
        raise unknown("suite", args.suite, names, "(or give the path of a .toml file)")
    ours = {"seed", "device", "dry_run", "on", "share"}
    wrong = ours if args.suite == SELF_TEST else {"only"}
    if extra := sorted(wrong & given):
        raise UsageError(f"{_option(extra[0])} does not go with suite {args.suite!r}")
    if args.on and (extra := sorted({"dry_run", "share"} & given)):
        raise UsageError(f"{_option(extra[0])} does not go with --on, whose hosts have shares")
    if args.resume and (extra := sorted({"seed", "dry_run"} & given)):
        raise UsageError(f"{_option(extra[0])} does not go with --resume, which has what it needs")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _print_suites(json: bool) -> None:
    if json:
        print_json(suites())
        return
    print("suites, to be run with `tiebreak run SUITE`:")
    for name, text in {**suites(), "FILE.toml": "your own: tiebreak run --example"}.items():
        print(f"  {name:<10} {text}")


def _run_suite(args: argparse.Namespace) -> None:
    from tiebreak.bench.manager.manager import run_suite
    from tiebreak.bench.manager.store import read_records
    from tiebreak.commands import show
    from tiebreak.report.html import write_page
    from tiebreak.report.page import arrange
    from tiebreak.report.page_data import read_folders

    stopped: list[str] = []
    if args.on:
        folder, stopped = _run_on_hosts(args)
    else:
        folder = run_suite(
            args.suite,
            out=args.out,
            scale=args.scale,
            resume=args.resume,
            seed=args.seed,
            device=args.device,
            share=args.share,
        )
    folders = read_folders([folder])
    report = write_page(arrange(folders), folder / "report.html")
    if args.json:
        print_json({"results": folder, "report": report, **show.document(folders[0])})
    else:
        show.print_results(folders[0], tables=False)
        print(f"all tables: tiebreak show {quoted(folder)} --tables")
        print(f"report: {report}")
    _fail([*stopped, *_failures(read_records(folder))])


def _run_on_hosts(args: argparse.Namespace) -> tuple[Path, list[str]]:
    """Run a suite on several hosts; return its folder, and a line for each that has stopped."""
    from tiebreak.bench.hosts.run import Request, run_on

    request = Request(
        suite=args.suite,
        hosts_file=args.on,
        out=args.out,
        scale=args.scale,
        seed=args.seed,
        device=args.device,
    )
    return run_on(request, resume=args.resume)


def _run_self_test(args: argparse.Namespace) -> None:
    from rich.console import Console

    from tiebreak.bench.manager.store import read_records
    from tiebreak.report.html import write_report
    from tiebreak.selftest.run import run as run_checks
    from tiebreak.selftest.show import failures, print_checks

    only = [name.strip() for name in args.only.split(",")] if args.only else None
    folder = run_checks(args.out, args.scale, only, args.resume)
    rows = [r for r in read_records(folder) if r["kind"] == "selftest"]
    report = write_report([folder], folder / "report.html")
    if args.json:
        print_json({"results": folder, "report": report, "rows": rows})
    else:
        print_checks(rows, Console())
        print(f"report: {report}")
    _fail(failures(rows))


def _fail(failures: list[str]) -> None:
    """Exit with status 1 and the first reason, if there is one."""
    if failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise Failure(failures[0] + more)


def _failures(records: list[dict[str, Any]]) -> Iterator[str]:
    """Yield what failed in the records; cells that are not installed are missing, not failed."""
    from tiebreak.stats.visits import last_attempts

    for record in records:
        if record["kind"] == "certificate" and not record["certificate"]["green"]:
            yield "the frameworks do not compute the same numbers: see `tiebreak verify`"
    for record in last_attempts([r for r in records if r["kind"] == "visit"]):
        if record["status"] not in ("ok", "missing"):
            cell = f"{record['group']}, {record['cell']['label']}"
            yield f"{cell}: {record['status']}: {record['error']}"
