"""Read a study file: which programs are trained, how they are compared, and what has to come out.

learning.toml beside this file is the study of this project, and a commented example.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from tiebreak import registry
from tiebreak.bench.suite import toml_table
from tiebreak.bench.suite.toml_table import Table
from tiebreak.core import config as configs
from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.schema import Count, Positive, Rule, check
from tiebreak.envs.task import Task
from tiebreak.stats.intervals import LEVEL
from tiebreak.studies.alterations import ALTERATIONS

FOLDER = Path(__file__).parent
Name = Annotated[
    str,
    Rule(
        lambda value: re.fullmatch(r"[a-z0-9]+([.-][a-z0-9]+)*", value) is not None,
        "a name of small letters and digits with - or . between them",
    ),
]
"""Names of studies and programs: folders are called so."""
Seeds = Annotated[int, Rule(lambda value: value >= 2, "a number of seeds from 2")]
Share = Annotated[float, Rule(lambda value: 0 < value < 0.5, "a share between 0 and 0.5")]
Expected = Literal["same", "different"]
Measure = Literal["learning", "final", "exploring"]

MEASURES: dict[Measure, str] = {
    "learning": "mean greedy return over the evaluations, by steps",
    "final": "greedy return at the end",
    "exploring": "return while exploring, over the last tenth of the training",
}
"""What is taken of a training as its one number."""


UNDECISIVE = ("about", "minutes", "note")
"""Keys, of any table of a study, that decide neither numbers nor verdicts."""


class ProgramRow(TypedDict):
    """A program as its file has it; what is left out is the study's."""

    framework: str
    label: NotRequired[Name]
    seeds: NotRequired[Seeds]
    first_seed: NotRequired[Count]
    config: NotRequired[dict[str, Any]]
    alteration: NotRequired[str]
    minutes: NotRequired[Positive]


class ControlRow(TypedDict):
    """A control as its file has it."""

    name: str
    expected: Expected
    against: Name
    program: ProgramRow


class PublishedRow(TypedDict):
    """Returns that others published: `values` of their seeds, or `mean` and `sd`."""

    source: str
    values: NotRequired[list[float]]
    mean: NotRequired[float]
    sd: NotRequired[Positive]
    note: NotRequired[str]


class StudyRow(TypedDict):
    """A study as its file has it."""

    name: Name
    about: NotRequired[str]
    algorithm: str
    task: str
    measure: NotRequired[Measure]
    seeds: Seeds
    first_seed: NotRequired[Count]
    config: NotRequired[dict[str, Any]]
    threads: NotRequired[Count]
    eval_every: Count
    eval_episodes: Count
    margin_sd: NotRequired[Positive]
    minutes: Positive
    programs: list[ProgramRow]
    controls: NotRequired[list[ControlRow]]
    published: NotRequired[PublishedRow]


class FileRow(TypedDict):
    """A study file."""

    description: NotRequired[str]
    level: NotRequired[Share]
    studies: list[dict[str, Any]]


@dataclass(frozen=True)
class Program:
    """Trainings that differ in nothing but the seed."""

    label: str
    framework: str
    first_seed: int
    seeds: int
    config: Mapping[str, Any]
    """Settings that differ from the reference for the task."""
    alteration: str
    """Name of the mistake that is put in, a key of ALTERATIONS; empty: none."""
    minutes: float
    """Estimate of one training, on two cores."""


@dataclass(frozen=True)
class Comparison:
    """Two programs that are compared."""

    first: Program
    second: Program
    control: str = ""
    """Name of the control; empty for a comparison of frameworks."""
    expected: Expected | None = None
    """What has to come out of a control."""


@dataclass(frozen=True)
class Published:
    """Returns that others published for the same training."""

    mean: float
    sd: float
    source: str
    note: str = ""


@dataclass(frozen=True)
class Study:
    """One question, all of which is decided beforehand."""

    name: str
    about: str
    algorithm: str
    task: Task
    measure: Measure
    threads: int
    """Threads of each training, as of `tiebreak train --threads`."""
    eval_every: int
    eval_episodes: int
    margin_sd: float
    level: float
    programs: tuple[Program, ...]
    """All that are trained, those of controls included."""
    comparisons: tuple[Comparison, ...]
    published: Published | None
    digest: str
    """Hash of everything that decides numbers or verdicts: not of `about` and `minutes`."""
    row: Mapping[str, Any]
    """The study as its file has it."""


def path_of(source: str) -> Path:
    """Return the path of a built-in study file, by its name, or of a .toml file."""
    if source.endswith(".toml"):
        return Path(source)
    names = sorted(path.stem for path in FOLDER.glob("*.toml"))
    if source not in names:
        raise unknown("study file", source, names, "(or give the path of a .toml file)")
    return FOLDER / f"{source}.toml"


def read(path: Path) -> list[Study]:
    """Read the studies of a file. Raises UsageError, which names file and line."""
    return from_table(toml_table.read(path, str(path), "study file"))


def from_table(table: Table) -> list[Study]:
    """Return the studies of a file's table. Raises UsageError for anything wrong in it."""
    _check_row(table, FileRow, "key of a study file")
    level = float(table.values.get("level", LEVEL))
    studies = [_read_study(row, level) for row in table.tables("studies", "[[studies]]")]
    _refuse_twice(table, "study", [study.name for study in studies])
    return studies


def _check_row(table: Table, kind: Any, what: str) -> None:
    """Raise UsageError for unknown keys and for values of a wrong type."""
    table.check_keys(what, kind.__annotations__)
    if problem := check(dict(table.values), kind):
        key = re.split(r"[ .]", problem, maxsplit=1)[0]
        raise table.wrong(problem if key in table.values else f"the table {problem}", key)


def _refuse_twice(table: Table, what: str, names: Sequence[str]) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise table.wrong(
            f"two of them are called {twice[0]!r}: give each {what} a name of its own"
        )


def _read_study(table: Table, level: float) -> Study:
    _check_row(table, StudyRow, "key of a study")
    row: Any = table.values
    with table.at("algorithm"):
        registry.algorithm(row["algorithm"])
    with table.at("task"):
        task = Task.parse(row["task"])
    if not row["eval_every"] or not row["eval_episodes"]:
        raise table.wrong("eval_every and eval_episodes are at least 1: returns are compared")

    of_frameworks = [_read_program(one, row) for one in table.tables("programs", "[[programs]]")]
    controls = _read_controls(table, of_frameworks)
    programs = [*of_frameworks, *(control.second for control in controls)]
    _refuse_twice(table, "program", [program.label for program in programs])
    pairs = [
        Comparison(first, second)
        for i, first in enumerate(of_frameworks)
        for second in of_frameworks[i + 1 :]
    ]
    return Study(
        name=row["name"],
        about=row.get("about", ""),
        algorithm=row["algorithm"],
        task=task,
        measure=row.get("measure", "learning"),
        threads=row.get("threads", 0),
        eval_every=row["eval_every"],
        eval_episodes=row["eval_episodes"],
        margin_sd=float(row.get("margin_sd", 1.0)),
        level=level,
        programs=tuple(programs),
        comparisons=(*pairs, *controls),
        published=_read_published(table),
        digest=configs.digest({"level": level, "study": _decisive(row)}),
        row=row,
    )


def _read_program(table: Table, study: Mapping[str, Any]) -> Program:
    table.check_keys("key of a program", ProgramRow.__annotations__)
    row = table.values
    with table.at("framework"):
        registry.require_implementation(study["algorithm"], row["framework"])
    alteration = row.get("alteration", "")
    if alteration and alteration not in ALTERATIONS:
        raise table.wrong(unknown("alteration", alteration, ALTERATIONS), "alteration")
    if alteration and not registry.framework(row["framework"]).runtime:
        raise table.wrong(
            f"an alteration needs a framework with one array library, and {row['framework']} has "
            "several: give another framework",
            "alteration",
        )

    config = {**study.get("config", {}), **row.get("config", {})}
    reference = registry.config_module(study["algorithm"]).Config()
    with table.at("config"):
        configs.override(reference, config)
    return Program(
        label=row.get("label", row["framework"]),
        framework=row["framework"],
        first_seed=row.get("first_seed", study.get("first_seed", 0)),
        seeds=row.get("seeds", study["seeds"]),
        config=config,
        alteration=alteration,
        minutes=float(row.get("minutes", study["minutes"])),
    )


def _read_controls(table: Table, programs: Sequence[Program]) -> list[Comparison]:
    by_label = {program.label: program for program in programs}
    controls = []
    for one in table.tables("controls", "[[controls]]"):
        one.check_keys("key of a control", ControlRow.__annotations__)
        row = one.values
        if row["against"] not in by_label:
            raise one.wrong(unknown("program", row["against"], by_label), "against")
        changed = _read_program(one.table("program"), table.values)
        first = by_label[row["against"]]
        controls.append(Comparison(first, changed, control=row["name"], expected=row["expected"]))
    return controls


def _read_published(table: Table) -> Published | None:
    if "published" not in table.values:
        return None
    place = table.table("published")
    place.check_keys("key of published returns", PublishedRow.__annotations__)
    row: Any = place.values
    source, note = row["source"], row.get("note", "")
    if "values" in row:
        import numpy as np

        values = np.array(row["values"], np.float64)
        if len(values) < 2:
            raise place.wrong("values are the returns of two seeds or more; give mean and sd else")
        return Published(float(values.mean()), float(values.std(ddof=1)), source, note)
    if "mean" not in row or "sd" not in row:
        raise place.wrong("published returns need mean and sd, or the values of their seeds")
    return Published(float(row["mean"]), float(row["sd"]), source, note)


def _decisive(value: Any) -> Any:
    """Return a row, and all rows in it, without what decides nothing."""
    if isinstance(value, Mapping):
        return {k: _decisive(v) for k, v in value.items() if k not in UNDECISIVE}
    return [_decisive(item) for item in value] if isinstance(value, list) else value


def select(studies: Sequence[Study], names: str) -> list[Study]:
    """Return the studies of these names, separated by commas, in their order in the file.

    No names: all. Raises UsageError for a name that there is not.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    valid = [study.name for study in studies]
    for name in wanted:
        if name not in valid:
            raise unknown("study", name, valid)
    return [study for study in studies if not wanted or study.name in wanted]


def require_some(studies: Sequence[Study], source: str) -> None:
    """Raise UsageError for a file without studies."""
    if not studies:
        raise UsageError(f"{source} holds no study: add [[studies]]; learning.toml is an example")
