"""Read several results folders of one suite as the history of its cells' ratios."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tiebreak.bench.manager.store import RECORDS, read_log, read_suite
from tiebreak.core.errors import UsageError
from tiebreak.core.text import printable, quoted
from tiebreak.report.formatting import join
from tiebreak.report.learning import find_runs
from tiebreak.stats.hardware_diff import Machine
from tiebreak.stats.history import Series, histories, series_of
from tiebreak.studies.seeds import is_results

MOST_FOLDERS = 4
"""Folders that a message names."""

Records = Sequence[dict[str, Any]]
"""The records of one folder."""


class Folder(NamedTuple):
    """One results folder of a history."""

    name: str
    commit: str
    """The first digits of its commit; empty if unknown."""
    version: str
    """Tiebreak's."""
    suite: str
    """Its suite and scale: `quick at scale full`."""
    measured_at: str
    """When its first run started, or else the suite: `2026-01-02T03:04:05Z`; empty if unknown."""
    machines: Mapping[str, Machine]
    """Fingerprint -> facts."""
    runs: frozenset[str]
    """run_ids of its visits."""
    loss: str
    """Records that cannot be read, and why, in one line; empty if there are none."""

    @property
    def at(self) -> str:
        """Day of its first run."""
        return self.measured_at[:10]

    @property
    def named(self) -> str:
        """Its name and commit: `v4, commit 44444444`."""
        return f"{self.name}, commit {self.commit}" if self.commit else self.name

    def described(self) -> str:
        """Return its name, commit and date."""
        commit = f"commit {self.commit}" if self.commit else ""
        about = ", ".join(filter(None, (commit, self.at)))
        return f"{self.name} ({about})" if about else self.name


class History(NamedTuple):
    """Several results folders, and the series of their cells."""

    folders: tuple[Folder, ...]
    series: tuple[Series, ...]
    notes: tuple[str, ...] = ()
    """What a reader should know of the folders, a line each."""


def read_history(
    paths: Sequence[Path], relative_to: str | None = None, as_given: bool = False
) -> History:
    """Read folders, in the order in which their first runs started.

    Args:
      paths: results folders.
      relative_to: label or framework of the cell that ratios are relative to.
      as_given: keep the order of `paths`. Folders of one date keep it anyway.

    Raises UsageError for fewer than two folders, for one that is no results folder, for two that
    hold the same run, and if no cell has a ratio in two of them.
    """
    if len(paths) < 2:
        raise UsageError("a history needs two results folders or more, one for each commit")
    read = [_read(path) for path in paths]
    _refuse_copies([folder for folder, _ in read])
    ordered = read if as_given else sorted(read, key=lambda one: one[0].measured_at)
    folders = [folder for folder, _ in ordered]
    records = [found for _, found in ordered]
    series = histories(records, relative_to)
    if not series:
        raise UsageError(_why_none(folders, records, relative_to))

    notes = _notes(folders, series)
    if ordered != read:
        notes.append("ordered by the dates of their first runs; --as-given keeps the order given")
    return History(tuple(folders), tuple(series), tuple(notes))


def _notes(folders: Sequence[Folder], series: Sequence[Series]) -> list[str]:
    """Return what a reader should know of folders that cannot be read whole, or do not match."""
    notes = [f"{folder.name}: {folder.loss}" for folder in folders if folder.loss]
    if len({folder.suite for folder in folders}) > 1:
        notes.append(
            f"not one suite: {_by_suite(folders)}; what looks like a change between them may be "
            "one of how it was measured"
        )
    used = {point.folder for one in series for point in one.points}
    if unused := [folder.name for i, folder in enumerate(folders) if i not in used]:
        verb = "has" if len(unused) == 1 else "have"
        notes.append(
            f"{_some(unused)} {verb} no ratio that another folder has on the same hardware"
        )
    return notes


def _read(path: Path) -> tuple[Folder, Records]:
    """Read one folder; what is stored by another command is said to be that."""
    other = ""
    if not (path / RECORDS).exists():
        other = "studies" if is_results(path) else "training runs" if find_runs(path) else ""
    if other:
        raise UsageError(
            f"{str(path)!r} holds {other}; a history is made from results folders "
            "(tiebreak run SUITE --out DIR makes one)"
        )
    log, suite = read_log(path, for_tables=True), read_suite(path)
    visits = [r for r in log.records if r["kind"] == "visit"]
    folder = Folder(
        name=printable(path.resolve().name),
        commit=str(suite.get("commit") or "")[:8],
        version=suite["version"],
        suite=f"{suite['suite']} at scale {suite['scale']}",
        measured_at=min((r["started_at"] for r in visits), default=suite.get("created_at", "")),
        machines={r["fingerprint"]: r["machine"] for r in log.records if r["kind"] == "machine"},
        runs=frozenset(r["run_id"] for r in visits),
        loss=log.loss(),
    )
    return folder, log.records


def _refuse_copies(folders: Sequence[Folder]) -> None:
    """Raise UsageError if two folders hold the same run: it would count twice."""
    for one, other in itertools.combinations(folders, 2):
        if one.runs & other.runs:
            raise UsageError(
                f"{quoted(one.name)} and {quoted(other.name)} hold the same run, which would "
                "count twice: leave one of them out"
            )


def _why_none(
    folders: Sequence[Folder], records: Sequence[Records], relative_to: str | None
) -> str:
    """Return why there is no series, and what to do."""
    keys = [set(series_of(found, relative_to)) for found in records]
    empty = [
        f"{folder.name} ({folder.loss})" if folder.loss else folder.name
        for folder, found in zip(folders, keys, strict=True)
        if not found
    ]
    if len(folders) - len(empty) < 2:
        return (
            f"no ratio with an interval in {_some(empty)}, and a history needs two folders with "
            "one: run the suite with two blocks or more, and two cells in a group"
        )
    anywhere = [{key._replace(hardware="") for key in found} for found in keys]
    if any(a & b for a, b in itertools.combinations(anywhere, 2)):
        return (
            "the folders were measured on different hardware, over which no ratio is followed; "
            "`tiebreak report` puts machines side by side"
        )
    return (
        f"no cell is in two of the folders ({_by_suite(folders)}): run the same suite for each, "
        "or name a reference that they share by --relative-to"
    )


def _by_suite(folders: Sequence[Folder]) -> str:
    """Return `quick at scale quick (v1 and v2), speed at scale full (v3)`."""
    names: dict[str, list[str]] = {}
    for folder in folders:
        names.setdefault(folder.suite, []).append(folder.name)
    return ", ".join(f"{suite} ({_some(of)})" for suite, of in names.items())


def _some(names: Sequence[str]) -> str:
    """Return the first few names as a list."""
    shown = list(names[:MOST_FOLDERS])
    more = [f"{len(names) - MOST_FOLDERS} more"] if len(names) > MOST_FOLDERS else []
    return join([*shown, *more])
