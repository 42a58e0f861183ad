"""What memory does: peak, live, and what every call keeps, as text and as lines to draw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tiebreak.report.formatting import DASH, join, size
from tiebreak.report.phrases import name
from tiebreak.stats.summaries import CellSummary, GroupSummary

REBUILD = "rebuild"
"""The probe that builds an agent anew in every call: what is kept then is a leak."""

SOURCES = {
    "library": "the library's own count",
    "heap": "all that malloc and Python hold",
    "rss": "the process's resident size",
}

Key = tuple[str, str, str]
"""Group, fingerprint, cell."""


class Series(NamedTuple):
    """A cell's memory, call by call."""

    rise_bytes: list[float]
    """Above the first reading: the median over its finished visits."""
    source: str
    """What was read: the library's own count, the heap or the whole process (rss)."""
    judged: bool
    """Whether there were calls enough to tell growth from chance."""


def series(records: Iterable[Mapping[str, Any]]) -> dict[Key, Series]:
    """The memory series of every cell that has one."""
    found: dict[Key, list[Mapping[str, Any]]] = {}
    for r in records:
        if r["kind"] == "visit" and r["status"] == "ok" and r["memory"].get("series_bytes"):
            key = (r["group"], r["fingerprint"], r["cell_id"])
            found.setdefault(key, []).append(r["memory"])
    return {key: _median(visits) for key, visits in found.items()}


def _median(visits: Sequence[Mapping[str, Any]]) -> Series:
    readings = [np.asarray(visit["series_bytes"], np.float64) for visit in visits]
    shortest = min(map(len, readings))
    rises = np.stack([values[:shortest] - values[0] for values in readings])
    sources = dict.fromkeys(str(visit.get("source", "")) for visit in visits)
    rise = [float(x) for x in np.median(rises, axis=0)]
    judged = all("growth_low_bytes_per_call" in visit for visit in visits)
    return Series(rise, " / ".join(filter(None, sources)), judged)


def grows(cell: CellSummary) -> bool:
    """Whether its memory rises by more than chance: the series is taken in the first block only."""
    return any(f.name == "memory_growing" for f in cell.flags)


def kept(cell: CellSummary, judged: bool) -> str:
    """What a call keeps: `1.31 MB`, `nothing`, or, where calls were too few to tell, `unknown`."""
    if cell.slope_bytes_per_call is None:
        return DASH
    if grows(cell):
        return size(cell.slope_bytes_per_call)
    return "nothing" if judged else "unknown"


def leaks(group: GroupSummary, judged: bool = False) -> str:
    """`nnx split keeps 1.31 MB per rebuilt agent; linen jit keeps nothing that shows.`

    judged: there were calls enough to say the latter; where one leak was told there were. Empty for
    groups of other probes, and where no series was taken.
    """
    known = [c for c in group.cells if c.slope_bytes_per_call is not None]
    if not known or known[0].cell.get("probe") != REBUILD:
        return ""
    leaking = sorted(filter(grows, known), key=lambda c: -(c.slope_bytes_per_call or 0.0))
    tight = [name(c) for c in known if c not in leaking]
    if not leaking and not judged:
        return f"Too few calls to judge {join(tight)}: no growth was seen."
    parts = [f"{name(c)} keeps {size(c.slope_bytes_per_call)} per rebuilt agent" for c in leaking]
    if tight:
        parts.append(f"{join(tight)} {'keeps' if len(tight) == 1 else 'keep'} nothing that shows")
    return f"{'; '.join(parts)}."


def measured(group: GroupSummary) -> bool:
    """Whether there is more to show than the peak."""
    return any(c.live_bytes is not None or c.slope_bytes_per_call is not None for c in group.cells)


def sources(lines: Iterable[tuple[CellSummary, Series]]) -> str:
    """`the library's own count (linen jit); the process's resident size (torch eager)`."""
    found: dict[str, list[str]] = {}
    for cell, series in lines:
        found.setdefault(SOURCES.get(series.source, series.source), []).append(name(cell))
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{source or 'unknown'} ({join(names)})" for source, names in found.items())
