"""Races of several folders side by side: a column for each machine, never pooled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from tiebreak.report import phrases
from tiebreak.report.answer import Card, TrainingTime, work
from tiebreak.report.bars import BarChart, machines_chart, time_chart, unit_words
from tiebreak.report.formatting import DASH, about_time, measured_time, ratio
from tiebreak.report.heat import tasks, words
from tiebreak.report.palette import machine_series
from tiebreak.stats.summaries import CellSummary

if TYPE_CHECKING:
    from tiebreak.report.page import FolderView

NOTE = (
    "Time for one million steps, and the speed relative to the reference of that machine. Every "
    "column was measured by itself; nothing is pooled."
)

PARTS_NOTE = (
    "Time per unit of work, and the speed relative to the reference of that machine. – not "
    "measured there. ⚑ kept out of conclusions."
)

MOST_TASKS, MOST_MACHINES = 2, 4
"""What a heading can hold."""


class TaskRows(NamedTuple):
    """The rows of one task."""

    task: str
    rows: tuple[tuple[str, ...], ...]
    """(cell, a value for each machine) as text."""


class AcrossMachines(NamedTuple):
    """Charts and tables of races that several machines ran."""

    charts: tuple[BarChart, ...]
    headings: tuple[str, ...]
    """`cell`, and the machines."""
    series: tuple[str, ...]
    """Name of each machine's color in palette.SERIES."""
    sections: tuple[TaskRows, ...]
    parts: tuple[TaskRows, ...]
    """The other probes, by task and probe."""
    note: str = NOTE
    parts_note: str = PARTS_NOTE


def across(views: Sequence[FolderView]) -> AcrossMachines:
    """Put the same cells of several folders side by side; one folder may hold several machines."""
    names = columns(views)
    cards = [(view, card) for view in views for card in view.data.answer.cards]
    titles = tasks([replace(card.group, fingerprint="") for _, card in cards])
    by_task: dict[str, list[tuple[str, Card]]] = {}
    for (view, card), title in zip(cards, titles, strict=True):
        machine = names[view.id, card.group.fingerprint]
        by_task.setdefault(title, []).append((machine, card))
    machines = tuple(names.values())
    return AcrossMachines(
        charts=tuple(_chart(task, raced, machines) for task, raced in by_task.items()),
        headings=("cell", *machines),
        series=tuple(machine_series(i) for i in range(len(machines))),
        sections=tuple(
            TaskRows(task, tuple(_rows(raced, machines))) for task, raced in by_task.items()
        ),
        parts=tuple(_parts(views, names)),
    )


def _parts(views: Sequence[FolderView], names: Mapping[tuple[str, str], str]) -> Iterator[TaskRows]:
    """Yield the rows of each group that no card is about; ceilings compare with nothing."""
    answered = {card.group.group for view in views for card in view.data.answer.cards}
    found = [
        (names[view.id, group.fingerprint], group)
        for view in views
        for group in view.data.groups
        if group.reference and not group.ceiling_of and group.group not in answered
    ]
    titles = tasks([replace(group, fingerprint="") for _, group in found])
    cells: dict[str, dict[str, dict[str, str]]] = {}
    for (machine, group), title in zip(found, titles, strict=True):
        plain, _ = words(str(group.cells[0].cell["probe"]))
        rows = cells.setdefault(f"{title}: {plain}", {})
        for cell in group.cells:
            if cell.visits:
                rows.setdefault(phrases.name(cell), {})[machine] = _part(cell)
    for title, rows in cells.items():
        texts = (
            (cell, *(values.get(machine, DASH) for machine in names.values()))
            for cell, values in rows.items()
        )
        yield TaskRows(title, tuple(texts))


def _part(cell: CellSummary) -> str:
    speed = ratio(cell.comparison) if cell.comparison else "1"
    return f"{measured_time(cell.seconds_per_unit)} · {speed}{' ⚑' if cell.barred else ''}"


def fastest(views: Sequence[FolderView]) -> str:
    """Say how long a million steps take at best on each machine, shortest first.

    Empty for tasks that not all machines ran, and for more tasks than a heading can hold.
    """
    full = columns(views)
    names = _short(full)
    best: dict[str, dict[str, TrainingTime]] = {}
    unit = ""
    for view in views:
        for card in view.data.answer.cards:
            valid = [one for one in card.times if not one.barred]
            if valid:
                key = view.id, card.group.fingerprint
                task = card.title.removesuffix(f" · {full[key]}")  # that of one of several machines
                one = min(valid, key=lambda time: time.total_s)
                best.setdefault(task, {})[names[key]] = one
                unit = unit_words(card.group)
    complete = {task: times for task, times in best.items() if len(times) == len(names)}
    if not 0 < len(complete) <= MOST_TASKS or len(names) > MOST_MACHINES:
        return ""
    texts = []
    for task, times in complete.items():
        ordered = sorted(times.items(), key=lambda item: item[1].total_s)
        times_of = [(about_time(one.total_s).replace(" ", "\u00a0"), m) for m, one in ordered]
        listed = [f"{time} on {machine}" for time, machine in times_of]
        texts.append(f"{task}: {', '.join(listed)}.")
    words = work(unit)[1]
    return f"{words[0].upper()}{words[1:]} at best. {' '.join(texts)}"


def columns(views: Sequence[FolderView]) -> dict[tuple[str, str], str]:
    """Return {(id of a folder, fingerprint): name of the machine}, all names different.

    They are the machines' own names if these tell them apart, else those of the folders, or of
    the fingerprints in a single folder.
    """
    keys = [
        (view, mark)
        for view in views
        for mark in dict.fromkeys(group.fingerprint for group in view.data.groups)
    ]
    own = [view.data.machine_titles.get(mark, view.data.machine_title) for view, mark in keys]
    folders = [view.data.name for view, _ in keys]
    marks = [phrases.machine(mark) for _, mark in keys]
    in_one_folder = len({view.id for view, _ in keys}) == 1
    for names in (own, marks if in_one_folder else folders):
        if len(set(names)) == len(names):
            break
    else:
        names = [f"{number}: {folder}" for number, folder in enumerate(folders, 1)]
    return {(view.id, mark): name for (view, mark), name in zip(keys, names, strict=True)}


def _short(names: dict[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """Return names of machines without their cores, if they still differ."""
    short = {key: name.partition(" · ")[0] for key, name in names.items()}
    return short if len(set(short.values())) == len(short) else names


def _by_cell(raced: Sequence[tuple[str, Card]]) -> dict[str, dict[str, TrainingTime]]:
    """Return {name of a cell: {machine: its time}}, the shortest of the first machine first."""
    cells: dict[str, dict[str, TrainingTime]] = {}
    for machine, card in raced:
        for one in sorted(card.times, key=lambda time: time.total_s):
            cells.setdefault(one.name, {})[machine] = one
    return cells


def _chart(task: str, raced: Sequence[tuple[str, Card]], machines: Sequence[str]) -> BarChart:
    """Draw machines in colors, or frameworks if only one machine ran this task."""
    if len(raced) == 1:
        machine, card = raced[0]
        return time_chart(f"{task} ({machine})", card)
    return machines_chart(task, raced[0][1].group, _by_cell(raced), machines)


def _rows(raced: Sequence[tuple[str, Card]], machines: Sequence[str]) -> list[tuple[str, ...]]:
    return [
        (cell, *(_value(by_machine.get(machine)) for machine in machines))
        for cell, by_machine in _by_cell(raced).items()
    ]


def _value(one: TrainingTime | None) -> str:
    if one is None:
        return DASH
    speed = ratio(one.cell.comparison) if one.cell.comparison else "1"
    return f"{about_time(one.total_s)} · {speed}{' ⚑' if one.barred else ''}"
