"""Run the trainings of studies one after the other, and go on where that stopped.

Each is `tiebreak train … --out OUT/STUDY/PROGRAM/seed-NNN`: an ordinary run, that goes on exactly
where it was killed. Beside it lie its output (`seed-NNN.log`) and `seed-NNN.json`: as what study,
registered by which commit, it was begun, and the seconds that it took. All that is known stands in
these files, so that `kill -9` loses nothing but the steps since the last checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from signal import SIGINT
from typing import Any, NamedTuple

from tiebreak.core.errors import UsageError
from tiebreak.core.files import hold, read_json_or_empty, write_json
from tiebreak.core.process_env import PARENT, SAFE
from tiebreak.core.text import one_line, quoted
from tiebreak.studies.registration import Registration
from tiebreak.studies.study import Program, Study
from tiebreak.training.run_logs import CONFIG, RESULT

PYTHON = (sys.executable, *SAFE, "-m")
TRAIN = "tiebreak"
ALTERED = "tiebreak.commands.altered_train"
"""Modules that train: as everybody does, and with a mistake in it."""
POLL_S = 0.1
"""Seconds between looks at whether a training has ended."""
STORE_S = 120.0
"""Seconds for a training to store its checkpoint, once its time is over, before it is killed."""


class Job(NamedTuple):
    """One training of a study."""

    study: Study
    program: Program
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """`ppo-cartpole torch seed 3`."""
        return f"{self.study.name} {self.program.label} seed {self.seed}"

    @property
    def begun_path(self) -> Path:
        """File with the study that it was begun as, and its seconds."""
        return self.folder.with_suffix(".json")

    @property
    def log(self) -> Path:
        """File with what it has printed."""
        return self.folder.with_suffix(".log")

    @property
    def begun(self) -> dict[str, Any]:
        """What is noted about it; {} before it was begun."""
        return read_json_or_empty(self.begun_path)

    @property
    def is_complete(self) -> bool:
        """Whether it was trained and evaluated to the end."""
        return read_json_or_empty(self.folder / RESULT).get("status") == "ok"


class Outcome(NamedTuple):
    """How one call of the queue ended a job."""

    job: Job
    seconds: float
    error: str
    """Why it failed, in one line; empty if it did not."""


class Queue:
    """The jobs of studies in one folder, in the order in which they are run."""

    def __init__(self, studies: Sequence[Study], out: Path, registered: Mapping[str, Registration]):
        """Prepare the jobs: study by study, and in each all programs' first seeds come first.

        Args:
            registered: Registrations by the name of a study; without one its trainings are marked.
        """
        self.jobs = [job for study in studies for job in jobs_of(study, out)]
        self._out, self._registered = out, registered

    @property
    def left(self) -> list[Job]:
        """Jobs that are not complete."""
        return [job for job in self.jobs if not job.is_complete]

    def seconds_left(self) -> float:
        """Estimate the seconds that the jobs will take that are not complete."""
        known: dict[tuple[str, str], list[float]] = {}
        left = []
        for job in self.jobs:
            key = (job.study.name, job.program.label)
            if not job.is_complete:
                left.append((key, job))
            elif seconds := job.begun.get("seconds"):
                known.setdefault(key, []).append(seconds)
        return sum(
            statistics.median(known[key]) if key in known else 60 * job.program.minutes
            for key, job in left
        )

    def check(self) -> None:
        """Raise UsageError if a training in the folder was begun as another study."""
        for job in self.jobs:
            digest = job.begun.get("digest", job.study.digest)
            if digest != job.study.digest:
                raise UsageError(
                    f"{str(job.folder)!r} was begun before the study {job.study.name!r} was "
                    "changed: run the changed one into another --out"
                )

    def run(
        self, stop: threading.Event, budget_s: float, tell: Callable[[Outcome], None]
    ) -> list[Outcome]:
        """Run what is left, one job after the other; return the outcomes of those that failed.

        Args:
            stop: Ends the running training, with a checkpoint, and starts no other.
            budget_s: Seconds after which the same happens; infinity: never.
            tell: Called after each job that is complete or has failed.

        Raises UsageError if another process runs jobs in the folder.
        """
        deadline = time.monotonic() + budget_s
        failed = []
        with hold(self._out, "running a study"):
            self.check()
            for job in self.left:
                if stop.is_set() or time.monotonic() >= deadline:
                    break
                outcome = self._run(job, stop, deadline)
                if outcome.error:
                    failed.append(outcome)
                if outcome.error or job.is_complete:
                    tell(outcome)
        return failed

    def _run(self, job: Job, stop: threading.Event, deadline: float) -> Outcome:
        """Train until the end, the deadline or `stop`, and note how long it took."""
        note = job.begun or self._first_note(job)
        write_json(job.begun_path, note)
        start_s = time.monotonic()
        with _training(job) as process:
            status = _wait(process, stop, deadline)
        seconds = time.monotonic() - start_s
        write_json(job.begun_path, {**note, "seconds": note["seconds"] + seconds})
        is_over = stop.is_set() or time.monotonic() >= deadline
        if job.is_complete or is_over:
            return Outcome(job, seconds, error="")
        return Outcome(job, seconds, _last_words(job.log) or f"it ended with status {status}")

    def _first_note(self, job: Job) -> dict[str, Any]:
        found = self._registered.get(job.study.name)
        registration = found._asdict() if found else {"commit": "", "committed_at": ""}
        return {"study": job.study.name, "digest": job.study.digest, **registration, "seconds": 0.0}


def jobs_of(study: Study, out: Path) -> Iterator[Job]:
    """Yield the jobs of a study: the first seed of every program, then the second, and so on."""
    for number in range(max(program.seeds for program in study.programs)):
        for program in study.programs:
            if number < program.seeds:
                folder = out / study.name / program.label / f"seed-{number:03d}"
                yield Job(study, program, program.first_seed + number, folder)


def words_of(job: Job) -> list[str]:
    """Return the words of the command that trains a job, without the interpreter."""
    study, program = job.study, job.program
    words = [ALTERED, program.alteration] if program.alteration else [TRAIN]
    words += ["train", study.algorithm, "--framework", program.framework]
    words += ["--task", str(study.task), "--seed", str(job.seed), "--out", str(job.folder)]
    words += ["--eval-every", str(study.eval_every), "--eval-episodes", str(study.eval_episodes)]
    words += ["--threads", str(study.threads)]
    for name, value in program.config.items():
        # The last comma makes a list of one value readable as a list.
        text = ",".join(map(str, value)) + "," if isinstance(value, list) else str(value)
        words += ["--set", f"{name}={text}"]
    if (job.folder / CONFIG).is_file():
        words.append("--resume")
    return words


@contextlib.contextmanager
def _training(job: Job) -> Iterator[subprocess.Popen]:
    """Start a job's process, out of reach of the terminal's Ctrl-C; it ends with the block."""
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("ab") as log:
        process = subprocess.Popen(
            [*PYTHON, *words_of(job)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, PARENT: str(os.getpid())},
            process_group=0,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _wait(process: subprocess.Popen, stop: threading.Event, deadline: float) -> int | None:
    """Wait for a process; once its time is over, let it store a checkpoint and end."""
    while process.poll() is None and not stop.is_set() and time.monotonic() < deadline:
        time.sleep(POLL_S)
    if process.poll() is None:
        process.send_signal(SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STORE_S)
    return process.poll()


def _last_words(log: Path) -> str:
    """Return the error that a command has printed last; empty if there is none."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
    except OSError as error:
        return f"cannot read {quoted(str(log))}: {error.strerror}"
    said = [line for line in lines if line.startswith("tiebreak: ")]
    return one_line(said[-1].removeprefix("tiebreak: ")) if said else ""
