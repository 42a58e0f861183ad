"""Ratios of cells over several results folders: as a table, as JSON, and where they changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tiebreak.bench.manager.store import read_log, read_suite
from tiebreak.core.errors import UsageError
from tiebreak.core.text import plural, printable, sparkline
from tiebreak.report.formatting import DASH, join, ratio, times
from tiebreak.stats.hardware_diff import Machine, differences
from tiebreak.stats.history import Change, Point, Series, histories

NOT_TOLD = {
    "boot_id", "commit", "installed", "installed_digest", "memory_bytes", "source", "user_hash",
}  # fmt: skip
"""Facts of machines that say nothing to a reader, or that are shown elsewhere."""

MOST_FACTS = 6
"""Facts that are listed of a change."""


class Folder(NamedTuple):
    """One results folder of a history."""

    name: str
    commit: str
    """The first digits of its commit; empty if unknown."""
    at: str
    """Day of its first record."""
    machines: Mapping[str, Machine]
    """Fingerprint -> facts."""
    loss: str
    """Records that cannot be read, and why, in one line; empty if there are none."""

    def described(self) -> str:
        """Return its name, commit and date."""
        commit = f"commit {self.commit}" if self.commit else ""
        return f"{self.name} ({', '.join(filter(None, (commit, self.at)))})"


class History(NamedTuple):
    """Several results folders, and the series of their cells."""

    folders: tuple[Folder, ...]
    series: tuple[Series, ...]


def read_history(paths: Sequence[Path], relative_to: str | None = None) -> History:
    """Read folders in the order of the history.

    Raises UsageError for fewer than two folders, and if no cell has a ratio in two of them.
    """
    if len(paths) < 2:
        raise UsageError("a history needs two results folders or more, the earliest first")
    folders, records = [], []
    for path in paths:
        log, suite = read_log(path, for_tables=True), read_suite(path)
        machines = {r["fingerprint"]: r["machine"] for r in log.records if r["kind"] == "machine"}
        folders.append(
            Folder(
                name=printable(path.resolve().name),
                commit=str(suite.get("commit") or "")[:8],
                at=str(suite.get("created_at", ""))[:10],
                machines=machines,
                loss=log.loss(),
            )
        )
        records.append(log.records)
    series = histories(records, relative_to)
    if not series:
        raise UsageError(
            "no cell has a ratio with an interval in two of the folders, on one kind of hardware: "
            "run the same suite for each, with two blocks or more"
        )
    return History(tuple(folders), tuple(series))


def to_json(history: History) -> dict[str, Any]:
    """Return a history as JSON-ready values."""
    folders = [{"name": f.name, "commit": f.commit, "at": f.at} for f in history.folders]
    return {"folders": folders, "series": [_series_json(history, one) for one in history.series]}


def _series_json(history: History, one: Series) -> dict[str, Any]:
    return {
        "group": one.group,
        "cell": one.label,
        "relative_to": one.reference,
        "hardware": one.hardware,
        "points": [
            {
                "folder": point.folder,
                "ratio": point.comparison.ratio,
                "low": point.comparison.low,
                "high": point.comparison.high,
                "blocks": point.comparison.blocks,
            }
            for point in one.points
        ],
        "changes": [
            {
                "after": one.points[change.before].folder,
                "before": one.points[change.before + 1].folder,
                "ratio_before": change.ratio_before,
                "ratio_after": change.ratio_after,
                "p": change.p,
                "differences": _facts(history, one, change),
            }
            for change in one.changes
        ],
    }


def print_history(history: History, console: Console) -> None:
    """Print the folders, a table for each group, and every change."""
    for number, folder in enumerate(history.folders, 1):
        console.print(Text(f"{number}  {folder.described()}"))
    for title, series in by_group(history).items():
        console.print(Text(f"\n{title}", style="bold"))
        console.print(_table(series))
    console.print()
    for line in conclusions(history):
        console.print(Text(line))


def by_group(history: History) -> dict[str, list[Series]]:
    """Return title -> series of each group; titles name the machine if there are several."""
    several = len({one.hardware for one in history.series}) > 1
    groups: dict[str, list[Series]] = {}
    for one in history.series:
        machine = f" · hardware {one.hardware[:6]}" if several else ""
        title = f"{one.group}{machine}: speed relative to {one.reference}"
        groups.setdefault(title, []).append(one)
    return groups


def _table(series: Sequence[Series]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("cell", overflow="fold")
    for heading in ("folders", "first", "last", "in turn", "changes"):
        table.add_column(heading, justify="left" if heading in ("in turn", "changes") else "right")
    for one in series:
        table.add_row(*map(Text, _row(one)))
    return table


def _row(one: Series) -> tuple[str, ...]:
    values = [point.comparison.ratio for point in one.points]
    changes = [
        f"{times(change.factor)} from {one.points[change.before + 1].folder + 1}"
        for change in one.changes
    ]
    return (
        one.label,
        _numbers(one.points),
        ratio(one.points[0].comparison),
        ratio(one.points[-1].comparison),
        sparkline(values),
        ", ".join(changes) or DASH,
    )


def _numbers(points: Sequence[Point]) -> str:
    """Return the numbers of the folders of points, as `1–12` or `1–4, 7`."""
    numbers = sorted({point.folder + 1 for point in points})
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{r[0]}–{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)


def conclusions(history: History) -> Iterator[str]:
    """Yield a line for each change, with what differs between its two folders."""
    changed = False
    for one in history.series:
        for change in one.changes:
            changed = True
            yield _sentence(history, one, change)
    if not changed:
        count = plural(len(history.series), "cell")
        yield f"→ no change is certain: {count} over {plural(len(history.folders), 'folder')}"


def _sentence(history: History, one: Series, change: Change) -> str:
    """Return one change: of what, from what to what, when, and what else changed then."""
    first = one.points[change.before].folder
    second = one.points[change.before + 1].folder
    facts = _facts(history, one, change)
    listed = [f"{name} {a or DASH} → {b or DASH}" for name, (a, b) in facts.items()]
    if len(listed) > MOST_FACTS:
        listed = [*listed[:MOST_FACTS], f"{len(listed) - MOST_FACTS} more"]
    between = f"; what differs: {join(listed)}" if listed else "; no package differs"
    return (
        f"→ {one.label} ({one.group}) became {times(change.factor)} as fast relative to "
        f"{one.reference}: {times(change.ratio_before)} up to {first + 1}, "
        f"{times(change.ratio_after)} from {second + 1}, p = {change.p:.2g}{between}"
    )


def _facts(history: History, one: Series, change: Change) -> dict[str, tuple[str, str]]:
    """Return what differs between the machines of the folders on both sides of a change."""
    before, after = one.points[change.before], one.points[change.before + 1]
    machines = [history.folders[p.folder].machines.get(p.fingerprint, {}) for p in (before, after)]
    found = differences(*machines)
    return {fact.name: (fact.a, fact.b) for fact in found if fact.name not in NOT_TOLD}
