"""Tables of others beside ours: their values as they were published, ours brought to their unit.

They come from other hardware and other code. Nothing is computed from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tiebreak.bench.suite.published import belongs
from tiebreak.report import phrases
from tiebreak.report.cross_tables import Sheet
from tiebreak.stats.summaries import CellSummary, GroupSummary

ELSEWHERE = "Published values are of other hardware and other code: shown, never pooled."
NOTHING = "The source publishes no numbers."


def sheets(groups: Sequence[GroupSummary], tables: Sequence[Mapping[str, Any]]) -> list[Sheet]:
    """Every published table with what was measured here beside it."""
    return [_sheet(groups, table) for table in tables]


def _sheet(groups: Sequence[GroupSummary], table: Mapping[str, Any]) -> Sheet:
    rows: list[tuple[str, ...]] = []
    for value in table["values"]:
        found = _OURS[table["unit"]](groups, value)
        first = value["what"], _number(value)
        for index, ours in enumerate(found or [(phrases.DASH, "not measured in this run")]):
            rows.append((*(first if index == 0 else ("", "")), *ours))
    about = [f"Measured on: {table['machine']}.", table["note"], ELSEWHERE if rows else NOTHING]
    return Sheet(
        f"published · {table['source']}",
        " ".join(part for part in about if part),
        ("what", f"published, {table['unit']}", "ours, here", "our cell"),
        tuple(rows),
    )


def _number(value: Mapping[str, Any]) -> str:
    spread = f" ± {value['plus_minus']:g}" if value.get("plus_minus") else ""
    return f"{value['value']:g}{spread}"


def _timed(seconds: Callable[[CellSummary], float | None]) -> Callable[..., list[tuple[str, str]]]:
    """Ours are times or rates, of every cell that a value belongs to."""

    def ours(groups: Sequence[GroupSummary], value: Mapping[str, Any]) -> list[tuple[str, str]]:
        return [
            (_three(here), _where(cell))
            for group in groups
            for cell in group.cells
            if belongs(cell.cell, value["where"]) and (here := seconds(cell)) is not None
        ]

    return ours


def _per_thousand(cell: CellSummary) -> float | None:
    return None if cell.seconds_per_unit is None else 1000 * cell.seconds_per_unit


def _per_call_ms(cell: CellSummary) -> float | None:
    units = cell.per_call.get("units")
    known = units is not None and cell.seconds_per_unit is not None
    return 1000 * units * cell.seconds_per_unit if known else None  # type: ignore[operator]


def _calls_per_s(cell: CellSummary) -> float | None:
    call_ms = _per_call_ms(cell)
    return 1000 / call_ms if call_ms else None


def _ratios(groups: Sequence[GroupSummary], value: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Ours are geometric means over groups of how much faster cells are than a framework."""
    logs: dict[str, list[float]] = {}
    for group in groups:
        others = [c for c in group.cells if c.cell["framework"] == value["over"]]
        best = min((c.seconds_per_unit for c in others if c.seconds_per_unit), default=None)
        for cell in group.cells:
            if best and cell.seconds_per_unit and belongs(cell.cell, value["where"]):
                logs.setdefault(cell.label, []).append(math.log(best / cell.seconds_per_unit))
    return [
        (
            phrases.times(math.exp(sum(each) / len(each))),
            f"{label}, {phrases.plural(len(each), 'race')}",
        )
        for label, each in logs.items()
    ]


def _three(number: float) -> str:
    return f"{number:.3g}" if number < 100 else f"{number:.0f}"


def _where(cell: CellSummary) -> str:
    """Our cell; with the name of its race, if it has one."""
    race = cell.cell.get("race")
    return f"{phrases.name(cell)} · {race}" if race else phrases.name(cell)


_OURS = {
    "s per 1000 updates": _timed(_per_thousand),
    "ms per call": _timed(_per_call_ms),
    "calls per s": _timed(_calls_per_s),
    "times as fast": _ratios,
}
"""Unit of a published table -> what of ours stands beside a value: (number, our cell) of each."""
