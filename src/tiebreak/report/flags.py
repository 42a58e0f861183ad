"""The meaning of each flag: the one table behind every list and legend of flags."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from tiebreak.report.formatting import measured_time, share, size
from tiebreak.stats.summaries import CellSummary, GroupSummary


class Meaning(NamedTuple):
    """Meaning of one flag."""

    value: str
    """Kind of its value: a key of VALUES, or empty."""
    text: str
    """Description of the event."""


FLAGS = {
    "noisy": Meaning("share", "the samples of a visit scatter widely around their median"),
    "unsteady": Meaning("share", "the second half of a visit's samples was faster or slower"),
    "heavy_tail": Meaning("share", "a few samples took far longer than the rest"),
    "too_short": Meaning("", "too few samples, or too short ones: the clock has not seen enough"),
    "recompiled": Meaning("", "something was compiled after warm-up, while the clock ran"),
    "fell_to_eager": Meaning("", "the compiler gave up, and part of it ran uncompiled"),
    "graph_break": Meaning("", "the compiled program was split in pieces, with Python between"),
    "cache_not_cold": Meaning("", "the compile cache of a cold visit was not empty"),
    "contended": Meaning("share", "other processes or the host took CPU time from the visit"),
    "throttled": Meaning("", "the machine slowed the processor down, or held this run to a quota"),
    "memory_growing": Meaning("per call", "memory rises with every call: something is kept"),
    "parity_mismatch": Meaning("", "threads, precision or another setting is not what was asked"),
    "work_mismatch": Meaning("", "the work that was counted is not the work that was asked for"),
    "still_running": Meaning("CPUs", "work went on after the clock had stopped"),
    "clock_mismatch": Meaning("seconds", "the worker's clock and the second one disagree"),
    "nan": Meaning("", "a result was not a finite number"),
    "timeout": Meaning("seconds", "the visit was ended at its time limit"),
    "oom": Meaning("seconds", "the visit ran out of memory"),
    "crash": Meaning("seconds", "the process of the visit ended without a result"),
    "drift": Meaning(
        "share", "the machine changed within a block; the pairs of the block carry it"
    ),
}
"""Every flag, the one of a block (drift) last. Thresholds: docs/measuring.md."""

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
