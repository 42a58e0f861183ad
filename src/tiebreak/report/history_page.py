"""Write a history as one HTML page, which loads nothing and runs nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import tiebreak
from tiebreak.core.text import plural
from tiebreak.report import history_tables, html, palette
from tiebreak.report.formatting import DASH, ratio, times
from tiebreak.report.history import History
from tiebreak.report.history_plot import Plot, plot
from tiebreak.stats.history import Point, Series

OPEN_CHANGES = 8
"""Sentences about more changes than these are folded away,"""
OPEN_GROUPS = 4
"""and so are further groups in which nothing changed,"""
OPEN_FOLDERS = 12
"""and the table of more folders."""


class ChangeView(NamedTuple):
    """One change in words."""

    badge: str
    """FASTER or SLOWER."""
    cell: str
    group: str
    sentence: str
    differs: str
    """What else differs between the two folders."""


class SeriesView(NamedTuple):
    """One cell with its chart."""

    label: str
    color: str
    """Name of its color in palette.SERIES."""
    ends: str
    """Its first ratio and its last."""
    plot: Plot
    about: str
    """The chart in words."""
    changes: tuple[ChangeView, ...]


class GroupView(NamedTuple):
    """The cells of one group that have one reference, on one kind of hardware."""

    title: str
    series: tuple[SeriesView, ...]
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """Every ratio: a row for each folder, a column for each cell."""

    @property
    def changed(self) -> bool:
        """True if any of its cells changed."""
        return any(one.changes for one in self.series)


def to_html(history: History) -> str:
    """Return the page about a history."""
    groups = [_group(history, *item) for item in history_tables.by_group(history).items()]
    groups.sort(key=lambda group: not group.changed)
    changed = sum(group.changed for group in groups)
    page = html.environment().get_template("history.html.j2")
    return page.render(
        title=_title(history),
        kicker=_kicker(history),
        changes=[change for group in groups for one in group.series for change in one.changes],
        nothing=f"{history_tables.no_change(history)}.".capitalize(),
        notes=history.notes,
        folders=_folder_rows(history),
        groups=groups,
        open_changes=OPEN_CHANGES,
        open_groups=max(OPEN_GROUPS, changed),
        open_folders=OPEN_FOLDERS,
        version=tiebreak.__version__,
        style=html.style("history.css") + _colors(groups),
    )


def _colors(groups: Sequence[GroupView]) -> str:
    """Return the style of the lines of every color that is used."""
    used = dict.fromkeys(one.color for group in groups for one in group.series)
    light = "".join(f".c-{name}{{color:{palette.SERIES[name].light}}}" for name in used)
    dark = "".join(f".c-{name}{{color:{palette.SERIES[name].dark}}}" for name in used)
    return f"{light}@media (prefers-color-scheme: dark) {{{dark}}}"


def _title(history: History) -> str:
    """Return the largest change, or that there is none."""
    found = [(one, change) for one in history.series for change in one.changes]
    if not found:
        return f"{history_tables.no_change(history)}.".capitalize()
    one, change = max(found, key=lambda item: abs(math.log(item[1].factor)))
    folder = history.folders[one.points[change.before + 1].folder]
    text = (
        f"{one.label} became {times(change.factor)} as fast relative to {one.reference} from "
        f"{folder.name} on"
    )
    if len(found) == 1:
        return f"{text}."
    cells = f"{sum(bool(one.changes) for one in history.series)} of {len(history.series)} cells"
    return f"{plural(len(found), 'change')} in {cells}; the largest: {text}."


def _kicker(history: History) -> tuple[str, ...]:
    suites = dict.fromkeys(folder.suite for folder in history.folders)
    machines = dict.fromkeys(history_tables.machine_names(history).values())
    days = sorted({folder.at for folder in history.folders if folder.at})
    return (
        "history",
        *(suites if len(suites) == 1 else [f"{len(suites)} suites"]),
        *(machines if len(machines) == 1 else [f"{len(machines)} machines, never pooled"]),
        plural(len(history.folders), "folder"),
        *([f"{days[0]} to {days[-1]}"] if len(days) > 1 else days),
    )


def _folder_rows(history: History) -> list[tuple[str, ...]]:
    return [
        (
            str(number),
            folder.name,
            folder.commit or DASH,
            folder.measured_at.replace("T", " ").removesuffix("Z") or DASH,
            folder.version,
            folder.suite,
        )
        for number, folder in enumerate(history.folders, 1)
    ]


def _group(history: History, title: str, series: Sequence[Series]) -> GroupView:
    return GroupView(
        title=title,
        series=tuple(_series(history, one) for one in series),
        headings=("folder", "commit", *(one.label for one in series)),
        rows=tuple(_rows(history, series)),
    )


def _series(history: History, one: Series) -> SeriesView:
    names = [folder.described() for folder in history.folders]
    ends = f"{ratio(one.points[0].comparison)} → {ratio(one.points[-1].comparison)}"
    changes = tuple(
        ChangeView(
            badge="FASTER" if change.factor > 1 else "SLOWER",
            cell=one.label,
            group=one.group,
            sentence=history_tables.describe_change(history, one, change),
            differs=history_tables.what_differs(history, one, change),
        )
        for change in one.changes
    )
    said = "; ".join(change.sentence for change in changes) or "no change is certain"
    return SeriesView(
        label=one.label,
        color=palette.framework_series(one.framework),
        ends=ends,
        plot=plot(one, names),
        about=f"{one.label} over {plural(len(one.points), 'folder')}: {ends}; {said}",
        changes=changes,
    )


def _rows(history: History, series: Sequence[Series]) -> list[tuple[str, ...]]:
    """Return the row of each folder that has a ratio."""
    rows = []
    for number, folder in enumerate(history.folders):
        values = [_value(one, number) for one in series]
        if any(values):
            texts = (value or DASH for value in values)
            rows.append((f"{number + 1} {folder.name}", folder.commit or DASH, *texts))
    return rows


def _value(one: Series, folder: int) -> str:
    """Return the ratio of a folder, or those of its fingerprints, as text; empty if none."""
    found = [
        _point_text(one, index, point)
        for index, point in enumerate(one.points)
        if point.folder == folder
    ]
    return "; ".join(found)


def _point_text(one: Series, index: int, point: Point) -> str:
    change = one.change_at(index)
    changed = f" (changed by {times(change.factor)})" if change else ""
    return f"{ratio(point.comparison)}{changed}"
