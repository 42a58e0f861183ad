"""One table of what is won where: speeds relative to the reference, probes by frameworks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tiebreak.bench.probe_table import PROBES
from tiebreak.registry import MODES
from tiebreak.report import phrases
from tiebreak.report.formatting import DASH, factor, join, ratio
from tiebreak.stats import overall
from tiebreak.stats.overall import Mean
from tiebreak.stats.summaries import CellSummary, Comparison, GroupSummary

STEPS = (1.05, 1.25, 1.6, 2.5, 5.0)
"""A ratio beyond the n-th of these (or below its inverse) gets the n-th shade."""

LEAST_AVERAGED = 3
"""Groups of a probe from which on their geometric mean is shown."""

ORDER = ("train", "population", "iteration", "forward", "interact", "update", "rebuild")
"""Order of the rows of a task. The environment alone has no framework to compare."""


class HeatCell(NamedTuple):
    """One value of the table."""

    text: str
    shade: int
    """0 for none, 1 to 5 for faster, -1 to -5 for slower."""
    unsure: bool = False
    """True if its interval includes 1, or if there is no interval."""
    barred: str = ""
    """Why the cell is kept out of conclusions; empty if it is not."""
    about: str = ""
    """Ratio with its interval."""
    value: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def css(self) -> str:
        """Class of its color: p1 to p5 for faster, m1 to m5 for slower, `none` without a value."""
        if self.value is None:
            return "none"
        return f"{'p' if self.shade > 0 else 'm'}{abs(self.shade)}" if self.shade else ""


class HeatRow(NamedTuple):
    """One group, or the average over several."""

    name: str
    about: str
    group: str
    """Name of the group, or what an average is over."""
    probe: str
    cells: tuple[HeatCell, ...]
    fingerprint: str = ""
    """Of the machine; empty for an average."""


class HeatSection(NamedTuple):
    """The rows of one task."""

    head: str
    """Name of the task; empty if the rows bear it."""
    rows: tuple[HeatRow, ...]


class HeatTable(NamedTuple):
    """Groups that share columns."""

    reference: str
    """Column that most ratios are relative to."""
    columns: tuple[str, ...]
    sections: tuple[HeatSection, ...]
    modes: tuple[tuple[str, str], ...]
    """(mode, what it does) of the columns."""


def heat_tables(groups: Sequence[GroupSummary]) -> list[HeatTable]:
    """Build the tables; groups that have no column in common get tables of their own.

    Groups with fewer than two finished cells are left out.
    """
    compared = [g for g in groups if g.reference and sum(c.visits > 0 for c in g.cells) > 1]
    compared.sort(key=_row_order(compared))
    names = dict(zip(map(_key, compared), tasks(compared), strict=True))
    tables: list[tuple[set[str], list[GroupSummary]]] = []
    for group in compared:
        columns = set(_by_column(group))
        joined = [table for table in tables if table[0] & columns]
        rest = [table for table in tables if table not in joined]
        merged = [g for _, members in joined for g in members] + [group]
        tables = [*rest, (columns.union(*(c for c, _ in joined)), merged)]
    return [_table(members, names) for _, members in tables]


def _key(group: GroupSummary) -> tuple[str, str]:
    return group.group, group.fingerprint


def _row_order(groups: Sequence[GroupSummary]):
    """Return a sort key: tasks as they come, the probes of a task from the whole to its parts."""
    tasks = list(dict.fromkeys(_task_key(group) for group in groups))

    def key(group: GroupSummary) -> tuple[int, int]:
        probe = group.cells[0].cell["probe"]
        rank = ORDER.index(probe) if probe in ORDER else len(ORDER)
        return tasks.index(_task_key(group)), rank

    return key


def _task_key(group: GroupSummary) -> tuple[str, str]:
    probe = group.cells[0].cell["probe"]
    parts = [part for part in group.group.split(" · ") if part != probe]
    return " · ".join(parts), group.fingerprint


def _by_column(group: GroupSummary) -> dict[str, CellSummary]:
    """Return cells by framework and mode, or by label where two of them share a mode.

    Cells that share even a label, as those of a folder that was put together by hand, are told
    apart by their ids.
    """
    modes = [f"{c.cell['framework']} {c.cell['mode']}" for c in group.cells]
    labels = [c.label for c in group.cells]
    columns: dict[str, CellSummary] = {}
    for mode, cell in zip(modes, group.cells, strict=True):
        name = mode if _is_named_by(cell, mode) and modes.count(mode) == 1 else cell.label
        if labels.count(cell.label) > 1:
            name = f"{cell.label} ({cell.cell_id})"
        if cell.visits:
            columns[name] = cell
    return columns


def _is_named_by(cell: CellSummary, mode: str) -> bool:
    """Return True if framework and mode say all that tells a cell from others of its row."""
    return mode in cell.label and not cell.cell.get("precision_varies")


def _table(groups: Sequence[GroupSummary], names: Mapping[tuple[str, str], str]) -> HeatTable:
    by_group = [_by_column(group) for group in groups]
    references = [
        next(name for name, c in cells.items() if c.cell_id == group.reference)
        for group, cells in zip(groups, by_group, strict=True)
    ]
    reference = max(dict.fromkeys(references), key=references.count)
    columns = sorted(
        dict.fromkeys(name for cells in by_group for name in cells),
        key=lambda name: (name != reference, -_mean_log(name, by_group)),
    )
    return HeatTable(
        reference=reference,
        columns=tuple(columns),
        sections=(
            *_sections(groups, [names[_key(g)] for g in groups], by_group, columns),
            *_averages(groups, columns),
        ),
        modes=tuple(mode_words(cell for cells in by_group for cell in cells.values())),
    )


def _sections(
    groups: Sequence[GroupSummary],
    names: Sequence[str],
    by_group: Sequence[Mapping[str, CellSummary]],
    columns: Sequence[str],
) -> list[HeatSection]:
    """Return the rows by task; a task with a single row has no head of its own."""
    folded = len(set(names)) == len(names)
    by_task: dict[str, list[HeatRow]] = {}
    for group, cells, task in zip(groups, by_group, names, strict=True):
        probe = group.cells[0].cell["probe"]
        plain, measures = words(probe)
        row = HeatRow(
            name=task if folded else plain,
            about=f"{plain}: {measures}" if folded else measures,
            group=group.group,
            probe=probe,
            cells=tuple(_cell(group, cells.get(name)) for name in columns),
            fingerprint=group.fingerprint,
        )
        by_task.setdefault(task, []).append(row)
    return [
        HeatSection(head="" if folded else task, rows=tuple(rows)) for task, rows in by_task.items()
    ]


def _averages(groups: Sequence[GroupSummary], columns: Sequence[str]) -> list[HeatSection]:
    """Return the geometric means over tasks, by probe, of probes that several tasks have."""
    if len({group.fingerprint for group in groups}) > 1:
        return []
    rows = []
    for probe in dict.fromkeys(str(group.cells[0].cell["probe"]) for group in groups):
        of_probe = [group for group in groups if group.cells[0].cell["probe"] == probe]
        _, averaged = overall.comparable(of_probe)
        means = overall.means(averaged) if len(averaged) >= LEAST_AVERAGED else []
        if means:
            rows.append(_average_row(probe, averaged, means, columns))
    return [HeatSection("geometric mean over tasks", tuple(rows))] if rows else []


def _average_row(
    probe: str, groups: Sequence[GroupSummary], means: Sequence[Mean], columns: Sequence[str]
) -> HeatRow:
    cells = {name: HeatCell(text=DASH, shade=0) for name in columns}
    reference = groups[0].find(groups[0].reference)
    for cell in filter(None, [reference]):
        cells[_column(cell, columns)] = HeatCell(text="1×", shade=0, value=1.0)
    for mean in means:
        cells[_column(mean.cell, columns)] = _compared(mean.comparison, barred="")
    plain, _ = words(probe)
    return HeatRow(
        name=plain,
        about=f"over {len(groups)} groups",
        group=f"geometric mean over {len(groups)} groups",
        probe=probe,
        cells=tuple(cells[name] for name in columns),
    )


def _column(cell: CellSummary, columns: Sequence[str]) -> str:
    mode = f"{cell.cell['framework']} {cell.cell['mode']}"
    return mode if mode in columns and _is_named_by(cell, mode) else cell.label


def tasks(groups: Sequence[GroupSummary]) -> list[str]:
    """Return the titles of groups without their probes, and without an engine that says nothing."""
    full = {str(group.cells[0].cell["task"]) for group in groups}
    names = [task.partition("/")[2] for task in full]
    titles = []
    for group, title in zip(groups, phrases.titles(groups), strict=True):
        task = str(group.cells[0].cell["task"])
        name = task.partition("/")[2]
        parts = [part for part in title.split(" · ") if part != group.cells[0].cell["probe"]]
        shown = " · ".join(parts) or task
        titles.append(shown.replace(task, name) if names.count(name) == 1 else shown)
    return titles


def words(probe: str) -> tuple[str, str]:
    """Return what a probe does in plain words, and what exactly it measures."""
    row = PROBES.get(probe)
    if row is None:
        return probe, "a probe that this version does not know"
    return row.plain, row.measures.replace("`", "")


def mode_words(cells: Iterable[CellSummary]) -> list[tuple[str, str]]:
    """Return (modes, what they do) of the cells that finished; modes that do the same together."""
    modes: dict[str, dict[str, None]] = {}
    for cell in cells:
        mode = str(cell.cell["mode"])
        if cell.visits and mode in MODES:
            modes.setdefault(MODES[mode], {})[mode] = None
    return [(join(list(names)), meaning) for meaning, names in modes.items()]


def _mean_log(name: str, by_group: Sequence[Mapping[str, CellSummary]]) -> float:
    """Return the mean log ratio of a column: columns are ordered by it."""
    logs = [
        math.log(cells[name].comparison.ratio)  # type: ignore[union-attr]
        for cells in by_group
        if name in cells and cells[name].comparison
    ]
    return sum(logs) / len(logs) if logs else 0.0


def _cell(group: GroupSummary, cell: CellSummary | None) -> HeatCell:
    if cell is None:
        return HeatCell(text=DASH, shade=0)
    why = ", ".join(cell.barred)
    if cell.cell_id == group.reference:
        return HeatCell(text="1×", shade=0, barred=why, about="the reference", value=1.0)
    comparison = cell.comparison
    if comparison is None:
        return HeatCell(text=DASH, shade=0, barred=why, about="never in a block of the reference")
    return _compared(comparison, barred=why)


def _compared(comparison: Comparison, barred: str) -> HeatCell:
    low, high = comparison.low, comparison.high
    unsure = low is None or high is None or low <= 1 <= high
    return HeatCell(
        text=factor(comparison.ratio),
        shade=0 if unsure or barred else shade(comparison.ratio),
        unsure=unsure,
        barred=barred,
        about=ratio(comparison) if low is not None else "one block, no interval",
        value=comparison.ratio,
        low=low,
        high=high,
    )


def shade(value: float) -> int:
    """Return the shade of a ratio: 0 near 1, up to 5 for faster and down to -5 for slower."""
    distance = max(value, 1 / value)
    steps = sum(distance >= step for step in STEPS)
    return steps if value > 1 else -steps
