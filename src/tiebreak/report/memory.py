"""Memory of a group's cells: peak, live, and what every call keeps, as text and as series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tiebreak.report.formatting import DASH, join, size
from tiebreak.report.phrases import name
from tiebreak.stats.summaries import CellSummary, GroupSummary

REBUILD = "rebuild"
"""The probe that builds an agent anew in every call: memory kept then is a leak."""

SOURCES = {
    "library": "the library's own count",
    "heap": "all that malloc and Python hold",
    "rss": "the process's resident size",
}

MIN_SPAN_BYTES = 1e4
"""A line of memory spans at least this much, up and down: noise must not fill it."""

Key = tuple[str, str, str]
"""(group, fingerprint, cell_id)."""


class Series(NamedTuple):
    """Memory of a cell, call by call."""

    rise_bytes: list[float]
    """[calls] bytes above the first reading, median over finished visits."""
    source: str
    """Source of the readings: `library`, `heap` or `rss` (see SOURCES)."""
    judged: bool
    """True if there were enough calls to tell growth from chance."""


def memory_series(records: Iterable[Mapping[str, Any]]) -> dict[Key, Series]:
    """Return the memory series of every cell that has one."""
    readings: dict[Key, list[Mapping[str, Any]]] = {}
    for r in records:
        if r["kind"] == "visit" and r["status"] == "ok" and r["memory"].get("series_bytes"):
            key = (r["group"], r["fingerprint"], r["cell_id"])
            readings.setdefault(key, []).append(r["memory"])
    return {key: _median_series(visits) for key, visits in readings.items()}


def _median_series(visits: Sequence[Mapping[str, Any]]) -> Series:
    series = [np.asarray(visit["series_bytes"], np.float64) for visit in visits]
    shortest = min(map(len, series))
    rises = np.stack([values[:shortest] - values[0] for values in series])
    sources = dict.fromkeys(str(visit.get("source", "")) for visit in visits)
    return Series(
        rise_bytes=[float(x) for x in np.median(rises, axis=0)],
        source=" / ".join(filter(None, sources)),
        judged=all("growth_low_bytes_per_call" in visit for visit in visits),
    )


def grows(cell: CellSummary) -> bool:
    """Return True if the cell's memory rises by more than chance explains."""
    return any(f.name == "memory_growing" for f in cell.flags)


def kept_per_call(cell: CellSummary, judged: bool) -> str:
    """Return what a call keeps: `1.31 MB`, `nothing`, or `unknown` if there were too few calls."""
    if cell.slope_bytes_per_call is None:
        return DASH
    if grows(cell):
        return size(cell.slope_bytes_per_call)
    return "nothing" if judged else "unknown"


def leaks(group: GroupSummary, judged: bool = False) -> str:
    """Say which agents leak: `nnx split keeps 1.31 MB per rebuilt agent; linen jit keeps nothing`.

    Empty unless the group rebuilds agents and a memory series was taken.

    judged: True if there were enough calls to say that nothing is kept.
    """
    measured = [c for c in group.cells if c.slope_bytes_per_call is not None]
    if not measured or measured[0].cell.get("probe") != REBUILD:
        return ""
    leaking = sorted(filter(grows, measured), key=lambda c: -(c.slope_bytes_per_call or 0.0))
    tight = [name(c) for c in measured if c not in leaking]
    if not leaking and not judged:
        return f"Too few calls to judge {join(tight)}: no growth was seen."

    parts = [f"{name(c)} keeps {size(c.slope_bytes_per_call)} per rebuilt agent" for c in leaking]
    if tight:
        verb = "keeps" if len(tight) == 1 else "keep"
        parts.append(f"{join(tight)} {verb} nothing that can be measured")
    return f"{'; '.join(parts)}."


def sparks(
    series: Sequence[tuple[CellSummary, Series]], width: float = 110.0, height: float = 24.0
) -> dict[str, str]:
    """Return {cell_id: points of a line} of memory against calls, on one scale for all cells."""
    ends = [rise for _, one in series for rise in one.rise_bytes]
    low, high = min([-MIN_SPAN_BYTES, *ends]), max([MIN_SPAN_BYTES, *ends])
    lines = {}
    for cell, one in series:
        step = width / max(1, len(one.rise_bytes) - 1)
        lines[cell.cell_id] = " ".join(
            f"{step * call:.1f},{1 + (height - 2) * (high - rise) / (high - low):.1f}"
            for call, rise in enumerate(one.rise_bytes)
        )
    return lines


def sources(series: Iterable[tuple[CellSummary, Series]]) -> str:
    """Say what was read: `the library's own count (linen jit); the process's resident size (…)`."""
    cells: dict[str, list[str]] = {}
    for cell, one in series:
        cells.setdefault(SOURCES.get(one.source, one.source), []).append(name(cell))
    if len(cells) == 1:
        return next(iter(cells))
    return "; ".join(f"{source or 'unknown'} ({join(names)})" for source, names in cells.items())
