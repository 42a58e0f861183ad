"""Published values of others beside ours, ours converted to their unit.

They come from other hardware and other code. Nothing is computed from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tiebreak.bench.suite.published import belongs
from tiebreak.core.text import plural
from tiebreak.report import phrases
from tiebreak.report.cross_tables import CrossTable
from tiebreak.report.formatting import DASH, times
from tiebreak.stats.summaries import CellSummary, GroupSummary

CAVEAT = "Published values are of other hardware and other code: shown, never pooled."
NO_NUMBERS = "The source publishes no numbers."

Measured = tuple[str, str]
"""(our value, the cell it is of), as text."""


def cross_tables(
    groups: Sequence[GroupSummary], tables: Sequence[Mapping[str, Any]]
) -> list[CrossTable]:
    """Build every published table with what was measured here beside it, without ceilings."""
    groups = [group for group in groups if not group.ceiling_of]
    return [_cross_table(groups, table) for table in tables]


def _cross_table(groups: Sequence[GroupSummary], table: Mapping[str, Any]) -> CrossTable:
    measure = _BY_UNIT[table["unit"]]
    rows: list[tuple[str, ...]] = []
    for value in table["values"]:
        ours = measure(groups, value) or [(DASH, "not measured in this run")]
        rows.append((value["what"], _number(value), *ours[0]))
        rows.extend(("", "", *other) for other in ours[1:])
    notes = [f"Measured on: {table['machine']}.", table["note"], CAVEAT if rows else NO_NUMBERS]
    return CrossTable(
        title=f"published · {table['source']}",
        note=" ".join(filter(None, notes)),
        headings=("what", f"published, {table['unit']}", "ours, here", "our cell"),
        rows=tuple(rows),
    )


def _number(value: Mapping[str, Any]) -> str:
    spread = f" ± {value['plus_minus']:g}" if value.get("plus_minus") else ""
    return f"{value['value']:g}{spread}"


def _each_cell(convert: Callable[[CellSummary], float | None]) -> Callable[..., list[Measured]]:
    """Return a function that converts every cell which a published value belongs to."""

    def measured(groups: Sequence[GroupSummary], value: Mapping[str, Any]) -> list[Measured]:
        values = []
        for group in groups:
            for cell in group.cells:
                number = convert(cell) if belongs(cell.cell, value["where"]) else None
                if number is not None:
                    values.append((_three_digits(number), _cell_name(cell)))
        return values

    return measured


def _per_thousand_s(cell: CellSummary) -> float | None:
    return None if cell.seconds_per_unit is None else 1000 * cell.seconds_per_unit


def _per_call_ms(cell: CellSummary) -> float | None:
    units = cell.per_call.get("units")
    if units is None or cell.seconds_per_unit is None:
        return None
    return 1000 * units * cell.seconds_per_unit


def _calls_per_s(cell: CellSummary) -> float | None:
    call_ms = _per_call_ms(cell)
    return 1000 / call_ms if call_ms else None


def _speedups(groups: Sequence[GroupSummary], value: Mapping[str, Any]) -> list[Measured]:
    """Return geometric means over groups of each cell's speed relative to a framework's best."""
    logs: dict[str, list[float]] = {}
    for group in groups:
        others = [c for c in group.cells if c.cell["framework"] == value["over"]]
        best = min((c.seconds_per_unit for c in others if c.seconds_per_unit), default=None)
        for cell in group.cells:
            if best and cell.seconds_per_unit and belongs(cell.cell, value["where"]):
                logs.setdefault(cell.label, []).append(math.log(best / cell.seconds_per_unit))
    return [
        (times(math.exp(sum(values) / len(values))), f"{label}, {plural(len(values), 'race')}")
        for label, values in logs.items()
    ]


def _three_digits(number: float) -> str:
    return f"{number:.3g}" if number < 100 else f"{number:.0f}"


def _cell_name(cell: CellSummary) -> str:
    """Return our cell's name, and that of its race if it has one."""
    race = cell.cell.get("race")
    return f"{phrases.name(cell)} · {race}" if race else phrases.name(cell)


_BY_UNIT = {
    "s per 1000 updates": _each_cell(_per_thousand_s),
    "ms per call": _each_cell(_per_call_ms),
    "calls per s": _each_cell(_calls_per_s),
    "times as fast": _speedups,
}
"""Unit of a published table, and the function that measures ours."""
