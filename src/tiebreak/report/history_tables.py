"""The history of ratios as tables, as JSON and in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tiebreak.core.text import plural, sparkline
from tiebreak.report.formatting import DASH, join, ratio, times
from tiebreak.report.history import History
from tiebreak.report.page_data import machine_title
from tiebreak.stats.hardware_diff import differences, hardware_id
from tiebreak.stats.history import Change, Point, Series

NOT_TOLD = {
    "boot_id", "commit", "installed", "installed_digest", "memory_bytes", "source", "user_hash",
}  # fmt: skip
"""Facts of machines that say nothing to a reader, or that are shown elsewhere."""

MOST_FACTS = 6
"""Facts that are listed of a change."""

LEAST_P = 1e-4
"""A smaller p says no more to a reader."""


def to_json(history: History) -> dict[str, Any]:
    """Return a history as JSON-ready values."""
    folders = [{"name": f.name, "commit": f.commit, "at": f.at} for f in history.folders]
    series = [_series_json(history, one) for one in history.series]
    return {"folders": folders, "series": series, "notes": list(history.notes)}


def to_rows(history: History) -> list[dict[str, Any]]:
    """Return every point as a row of a table; the first one after a change says so."""
    machines = machine_names(history)
    return [
        {
            "group": one.group,
            "cell": one.label,
            "relative_to": one.reference,
            "machine": machines[one.hardware],
            "number": point.folder + 1,
            "folder": history.folders[point.folder].name,
            "commit": history.folders[point.folder].commit,
            "at": history.folders[point.folder].measured_at,
            "ratio": point.comparison.ratio,
            "low": point.comparison.low,
            "high": point.comparison.high,
            "blocks": point.comparison.blocks,
            "changed_by": change.factor if change else None,
            "p": change.p if change else None,
        }
        for one in history.series
        for index, point in enumerate(one.points)
        for change in (one.change_at(index),)
    ]


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
    machines = machine_names(history)
    groups: dict[str, list[Series]] = {}
    for one in history.series:
        machine = f" · {machines[one.hardware]}" if len(machines) > 1 else ""
        title = f"{one.group}{machine}: speed relative to {one.reference}"
        groups.setdefault(title, []).append(one)
    return groups


def machine_names(history: History) -> dict[str, str]:
    """Return {hardware of a series: name of the machine}, all names different."""
    machines = [machine for folder in history.folders for machine in folder.machines.values()]
    titles = {hardware_id(machine): machine_title([machine]) for machine in machines}
    used = {one.hardware: titles.get(one.hardware, "unknown machine") for one in history.series}
    if len(set(used.values())) == len(used):
        return used
    return {hardware: f"{title} · hardware {hardware[:6]}" for hardware, title in used.items()}


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
            sentence = describe_change(history, one, change)
            yield f"→ {one.label} ({one.group}) {sentence}; {what_differs(history, one, change)}"
    if not changed:
        yield f"→ {no_change(history)}"


def no_change(history: History) -> str:
    """Say that nothing changed for certain, and over how much."""
    count = plural(len(history.series), "cell")
    return f"no change is certain: {count} over {plural(len(history.folders), 'folder')}"


def describe_change(history: History, one: Series, change: Change) -> str:
    """Return `became 1.50× as fast …`: from what to what, from which folder on, and how sure."""
    first = one.points[change.before].folder
    second = one.points[change.before + 1].folder
    return (
        f"became {times(change.factor)} as fast relative to {one.reference}: "
        f"{times(change.ratio_before)} up to {first + 1}, {times(change.ratio_after)} from "
        f"{second + 1} ({history.folders[second].named}), {chance(change.p)}"
    )


def chance(p: float) -> str:
    """Return a p-value for a reader: `p = 0.012`, `p < 0.0001`."""
    return f"p < {LEAST_P:.4f}" if p < LEAST_P else f"p = {p:.2g}"


def what_differs(history: History, one: Series, change: Change) -> str:
    """Return what else differs between the folders on both sides of a change."""
    facts = _facts(history, one, change)
    listed = [f"{name} {a or DASH} → {b or DASH}" for name, (a, b) in facts.items()]
    if len(listed) > MOST_FACTS:
        listed = [*listed[:MOST_FACTS], f"{len(listed) - MOST_FACTS} more"]
    return f"what differs: {join(listed)}" if listed else "no package differs"


def _facts(history: History, one: Series, change: Change) -> dict[str, tuple[str, str]]:
    """Return what differs between the machines of the folders on both sides of a change."""
    before, after = one.points[change.before], one.points[change.before + 1]
    machines = [history.folders[p.folder].machines.get(p.fingerprint, {}) for p in (before, after)]
    found = differences(*machines)
    return {fact.name: (fact.a, fact.b) for fact in found if fact.name not in NOT_TOLD}
