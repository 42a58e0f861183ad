"""`tiebreak study`: train what a study file says, one after the other, and say what it shows."""

from __future__ import annotations

import argparse
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiebreak.commands.options import Failure, Parser, print_json, quoted
from tiebreak.core.errors import UsageError
from tiebreak.core.text import duration, plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tiebreak.studies.queue import Outcome, Queue
    from tiebreak.studies.registration import Registration
    from tiebreak.studies.study import Study

UNITS_S = {"s": 1.0, "min": 60.0, "h": 3600.0}


def parser() -> Parser:
    """Return the parser of `tiebreak study`."""
    out = Parser(
        "study",
        "Show that frameworks learn alike, or that they do not: trainings over many seeds, one\n"
        "after the other, by a file that was committed before them. The same command goes on\n"
        "where it was stopped or killed. Without --out: what would be trained.",
        [
            "tiebreak study",
            "tiebreak study learning --out runs/learning --budget 40min",
            "tiebreak study learning --out runs/learning --only ppo-cartpole,dqn-cartpole",
            "tiebreak report runs/learning -o learning.html",
        ],
    )
    out.add_argument(
        "file", nargs="?", default="learning", help="learning, or the path of a .toml file"
    )
    out.add_argument("--out", metavar="DIR", type=Path, help="folder of the trainings")
    out.add_argument(
        "--only", metavar="STUDY,…", default="", help="studies of the file; default: all"
    )
    out.add_argument(
        "--budget",
        metavar="TIME",
        help="stop after 90s, 40min or 2h; the training that runs then stores a checkpoint",
    )
    out.add_argument("--plan", action="store_true", help="show what is left; train nothing")
    out.add_argument(
        "--results",
        metavar="DIR",
        type=Path,
        help="write the records of complete studies into this folder, too, for tiebreak report",
    )
    out.add_argument(
        "--unregistered",
        action="store_true",
        help="train studies that are not committed as they are; these trainings count for nothing",
    )
    out.add_json()
    return out


def run(args: argparse.Namespace) -> int:
    """Train, write the records, and print what they show and what is left."""
    from tiebreak.studies import study as study_files
    from tiebreak.studies.queue import Queue
    from tiebreak.studies.registration import registrations

    budget_s = parse_budget(args.budget) if args.budget else math.inf
    path = study_files.path_of(args.file)
    studies = study_files.read(path)
    study_files.require_some(studies, args.file)
    chosen = study_files.select(studies, args.only)
    registered = registrations(path, chosen)
    queue = Queue(chosen, args.out or Path(), registered)
    if args.out is None or args.plan:
        _show_plan(args, chosen, queue, registered)
        return 0
    if not args.unregistered:
        _require_registered(chosen, registered, path)
    failed, is_stopped = _train(queue, budget_s)
    _write_and_print(args, studies, chosen)
    if is_stopped:
        left = plural(len(queue.left), "training")
        raise KeyboardInterrupt(f"interrupted: {left} left; the same command goes on")
    _print_left(args, queue)
    if failed:
        raise Failure(
            f"{plural(len(failed), 'training')} failed, {failed[0].job.name}: {failed[0].error}; "
            "the same command tries again"
        )
    return 0


def parse_budget(text: str) -> float:
    """Return the seconds of `90s`, `40min` or `2h`. Raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h)", text)
    if match is None or float(match[1]) <= 0:
        raise UsageError(f"--budget is {text!r}; it is a time above 0, as 90s, 40min or 2h")
    return float(match[1]) * UNITS_S[match[2]]


def _require_registered(
    studies: Sequence[Study], registered: Mapping[str, Registration], path: Path
) -> None:
    missing = [study.name for study in studies if study.name not in registered]
    if missing:
        raise UsageError(
            f"study {missing[0]!r} is not committed as it is in {str(path)!r}, so that its "
            "trainings would count for nothing: commit the file first, or try it out with "
            "--unregistered"
        )


def _train(queue: Queue, budget_s: float) -> tuple[list[Outcome], bool]:
    """Run the queue; return the trainings that failed, and whether a signal has ended it."""
    from tiebreak.core.cache import keep_compiled_programs
    from tiebreak.training.session import interruptible

    keep_compiled_programs()
    total = len(queue.jobs)

    def tell(outcome: Outcome) -> None:
        left = queue.left
        result = outcome.error or f"done in {duration(outcome.seconds)}"
        estimate = f"{duration(queue.seconds_left())} left" if left else "nothing is left"
        count = f"[{total - len(left)}/{total}]"
        print(f"{count} {outcome.job.name}: {result}; {estimate}", file=sys.stderr, flush=True)

    with interruptible(lambda: print("stopping soon", file=sys.stderr, flush=True)) as stop:
        failed = queue.run(stop, budget_s, tell)
    return failed, stop.is_set()


def _write_and_print(
    args: argparse.Namespace, studies: Sequence[Study], chosen: Sequence[Study]
) -> None:
    """Write all records beside the trainings, and those of complete studies where they are asked.

    Studies that are not chosen now may have been trained into the folder before.
    """
    from tiebreak.report.learning_evidence import finding_lines, finding_rows
    from tiebreak.studies import seeds, verdicts

    records = seeds.collect(studies, args.out)
    seeds.write(args.out, studies, records)
    if args.results:
        complete = [study for study in studies if verdicts.is_complete(study, records)]
        names = {study.name for study in complete}
        kept = [record for record in records if record["study"] in names]
        seeds.write(args.results, complete, kept)
    if args.json:
        print_json(finding_rows(chosen, records))
        return
    for line in finding_lines(chosen, records):
        print(line)


def _print_left(args: argparse.Namespace, queue: Queue) -> None:
    left = queue.left
    if not left or args.json:
        return
    what = f"{len(left)} of {len(queue.jobs)} trainings are left, about"
    only = f" --only {args.only}" if args.only else ""
    command = f"tiebreak study {quoted(args.file)} --out {quoted(args.out)}{only}"
    print(f"{what} {duration(queue.seconds_left())}; go on with: {command}")


def _show_plan(
    args: argparse.Namespace,
    studies: Sequence[Study],
    queue: Queue,
    registered: Mapping[str, Registration],
) -> None:
    """Print a line for each study: trainings, what is left, and since when it is written down."""
    rows = [_plan_row(study, args.out, registered) for study in studies]
    if args.json:
        print_json(rows)
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table("study", "trains", "trainings", "left", "about", "registered", box=SIMPLE_HEAD)
    for row in rows:
        about = duration(row["seconds_left"])
        registration = row["commit"][:7] or "no"
        counts = str(row["trainings"]), str(row["left"])
        table.add_row(row["study"], ", ".join(row["programs"]), *counts, about, registration)
    Console().print(table)
    print(f"{len(queue.left)} trainings are left, about {duration(queue.seconds_left())}")


def _plan_row(
    study: Study, out: Path | None, registered: Mapping[str, Registration]
) -> dict[str, Any]:
    from tiebreak.studies.queue import Queue

    queue = Queue([study], out or Path("new"), registered)
    return {
        "study": study.name,
        "about": study.about,
        "programs": [program.label for program in study.programs],
        "trainings": len(queue.jobs),
        "left": len(queue.left),
        "seconds_left": queue.seconds_left(),
        "commit": registered[study.name].commit if study.name in registered else "",
    }
