"""Records of studies: one number for each seed, with all that it takes to believe it.

A folder of results holds `studies.json`, the studies as their file has them, and `seeds.jsonl`, a
record a line. Both are made from the runs' folders, and hold no path.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from tiebreak.bench.suite.toml_table import Table
from tiebreak.core.errors import UsageError
from tiebreak.core.files import write_atomic, write_json
from tiebreak.core.schema import check
from tiebreak.stats.curves import mean_height
from tiebreak.studies import study as study_files
from tiebreak.studies.queue import Job, jobs_of
from tiebreak.studies.study import Measure, Study
from tiebreak.training import run_logs
from tiebreak.training.curves import read_greedy

STUDIES, SEEDS = "studies.json", "seeds.jsonl"
SCHEMA = 1
LAST = 0.1
"""Share of a training that the measure `exploring` takes."""


class SeedRecord(TypedDict):
    """One training of a study, as `seeds.jsonl` has it."""

    schema: int
    study: str
    program: str
    seed: int
    value: float
    """The training's one number, by the study's measure."""
    steps: list[float]
    """Environment steps of its greedy evaluations."""
    returns: list[float]
    """Mean return of each."""
    digest: str
    """Hash of the study that it was begun as."""
    registered: str
    """Commit by which that study was written down; empty if it was not."""
    registered_at: str
    started_at: str
    commit: str
    """Commit of the code that trained."""
    mode: str
    loop: str
    config_hash: str
    altered: NotRequired[str]
    """Mistake that was put in on purpose."""
    versions: dict[str, str]
    seconds: float
    """Seconds of its processes, all in all."""


def collect(studies: Sequence[Study], out: Path) -> list[SeedRecord]:
    """Return the records of the trainings that are complete. Raises UsageError for broken runs."""
    return [_record(job) for study in studies for job in jobs_of(study, out) if job.is_complete]


def _record(job: Job) -> SeedRecord:
    about = run_logs.read_object(job.folder / run_logs.CONFIG)
    greedy, begun = read_greedy(job.folder), job.begun
    try:
        altered = {"altered": about["altered"]} if "altered" in about else {}
        record: Any = {
            "schema": SCHEMA,
            "study": job.study.name,
            "program": job.program.label,
            "seed": about["seed"],
            "value": measure(job.folder, job.study.measure),
            "steps": greedy.steps.tolist(),
            "returns": [round(float(r), 3) for r in greedy.returns.mean(axis=-1)],
            "digest": begun["digest"],
            "registered": begun["commit"],
            "registered_at": begun["committed_at"],
            "started_at": about["started_at"],
            "commit": about["commit"],
            "mode": about["mode"],
            "loop": about["loop"],
            "config_hash": about["config_hash"],
            **altered,
            "versions": about["versions"],
            "seconds": round(begun["seconds"], 1),
        }
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UsageError(f"the run in {str(job.folder)!r} cannot be read: {error!r}") from error
    return record


def measure(folder: Path, kind: Measure) -> float:
    """Return the one number of a complete training."""
    if kind == "exploring":
        return _exploring(run_logs.read_lines(folder / run_logs.METRICS))
    greedy = read_greedy(folder)
    means = greedy.returns.mean(axis=-1)
    return mean_height(greedy.steps, means) if kind == "learning" else float(means[-1])


def _exploring(log: Sequence[dict[str, Any]]) -> float:
    """Return the mean return of the episodes that ended in the last tenth of a training."""
    first = (1 - LAST) * log[-1]["steps"]
    lines = [line for line in log if line["steps"] > first and line["episodes"]]
    weights = [line["episodes"] for line in lines]
    return float(np.average([line["mean_return"] for line in lines], weights=weights))


def write(folder: Path, studies: Sequence[Study], records: Iterable[SeedRecord]) -> None:
    """Write studies and records of a results folder. Raises UsageError if it cannot be written."""
    lines = [json.dumps(record, sort_keys=True, allow_nan=False) for record in records]
    by_level: dict[str, Any] = {"level": studies[0].level} if studies else {}
    try:
        write_json(folder / STUDIES, {**by_level, "studies": [dict(s.row) for s in studies]})
        write_atomic(folder / SEEDS, "".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise UsageError(f"cannot write to {str(folder)!r}: {error.strerror}") from error


def is_results(folder: Path) -> bool:
    """Return whether a folder holds records of studies."""
    return (folder / STUDIES).is_file()


def read(folder: Path) -> tuple[list[Study], list[SeedRecord]]:
    """Return studies and records of a results folder. Raises UsageError."""
    stored = run_logs.read_object(folder / STUDIES)
    studies = study_files.from_table(Table(str(folder / STUDIES), stored))
    records = run_logs.read_lines(folder / SEEDS)
    for number, record in enumerate(records, 1):
        if problem := check(record, SeedRecord):
            raise UsageError(f"{folder / SEEDS}:{number}: the record {problem}")
    return studies, records  # type: ignore[return-value]
