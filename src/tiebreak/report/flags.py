"""Flags as text: their values, lists for one cell, and the legend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tiebreak.report.formatting import measured_time, share, size
from tiebreak.stats.flags import FLAGS
from tiebreak.stats.summaries import CellSummary, GroupSummary

VALUES = {
    "share": share,
    "per call": lambda value: f"{size(value)} per call",
    "seconds": lambda value: measured_time(abs(value)),
    "CPUs": lambda value: f"{value:.2g} CPUs",
}
"""Formats of measured values by kind; others are shown as they are."""


def describe_flags(summary: CellSummary) -> str:
    """Return the flags of a cell: `recompiled 2, noisy 12.0 % (3 of 5 visits)`."""
    return ", ".join(
        f.name
        + flag_value(f.name, f.value)
        + (f" ({f.visits} of {summary.visits} visits)" if f.visits < summary.visits else "")
        for f in summary.flags
    )


def flag_value(name: str, value: Any) -> str:
    """Return a flag's measured value with a space before it; nothing for a bare True."""
    if value is True or value in (None, ""):
        return ""
    written = VALUES.get(FLAGS[name].value) if name in FLAGS else None
    if written and isinstance(value, (int, float)):
        return f" {written(value)}"
    return f" {value:.3g}" if isinstance(value, float) else f" {value}"


def explain(names: Iterable[str]) -> str:
    """Return flags with their meaning: `graph_break, the compiled program was split in pieces`."""
    return "; ".join(f"{name}, {meaning(name)}" for name in names)


def meaning(name: str) -> str:
    """Return what a flag means; of an unknown flag, that it is unknown."""
    return FLAGS[name].text if name in FLAGS else "a flag that this version does not know"


def glossary(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return (flag, meaning) of the named flags, in the order of the table, unknown ones last."""
    wanted = set(names)
    known = [name for name in FLAGS if name in wanted]
    unknown = sorted(wanted - FLAGS.keys())
    return [(name, meaning(name)) for name in known + unknown]


def flag_names(groups: Sequence[GroupSummary]) -> set[str]:
    """Return the names of all flags of these groups' cells."""
    return {f.name for group in groups for cell in group.cells for f in cell.flags}
