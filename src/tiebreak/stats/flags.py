"""Every flag of a run: whether it bars conclusions, the kind of its value, and what it says.

A *validity* flag says that the run did not measure what it should have: its cell is shown, but
takes part in no conclusion. A *noise* flag says that the machine was restless: intervals are wider
for it, and the number is as good as they say (docs/decisions/0037), so that it is only a note.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class FlagRow(NamedTuple):
    """One row of FLAGS."""

    bars: bool
    """True for a validity flag."""
    value: str
    """Kind of its value: share, per call, seconds, CPUs, or empty."""
    text: str
    """Description of the event."""


FLAGS = {
    "noisy": FlagRow(
        bars=False,
        value="share",
        text="the samples of a visit scatter widely around their median",
    ),
    "unsteady": FlagRow(
        bars=False,
        value="share",
        text="the second half of a visit's samples was faster or slower",
    ),
    "heavy_tail": FlagRow(
        bars=False,
        value="share",
        text="a few samples took far longer than the rest",
    ),
    "too_short": FlagRow(
        bars=True,
        value="",
        text="too few samples, or too short ones: the clock has not seen enough",
    ),
    "recompiled": FlagRow(
        bars=True,
        value="",
        text="something was compiled after warm-up, while the clock ran",
    ),
    "fell_to_eager": FlagRow(
        bars=True,
        value="",
        text="the compiler gave up, and part of it ran uncompiled",
    ),
    "graph_break": FlagRow(
        bars=True,
        value="",
        text="the compiled program was split in pieces, with Python between",
    ),
    "cache_not_cold": FlagRow(
        bars=True,
        value="",
        text="the compile cache of a cold visit was not empty",
    ),
    "contended": FlagRow(
        bars=False,
        value="share",
        text="other processes or the host took CPU time from the visit",
    ),
    "throttled": FlagRow(
        bars=False,
        value="",
        text="the machine slowed the processor down, or held this run to a quota",
    ),
    "memory_growing": FlagRow(
        bars=True,
        value="per call",
        text="memory rises with every call: something is kept",
    ),
    "parity_mismatch": FlagRow(
        bars=True,
        value="",
        text="threads, precision or another setting is not what was asked",
    ),
    "work_mismatch": FlagRow(
        bars=True,
        value="",
        text="the work that was counted is not the work that was asked for",
    ),
    "still_running": FlagRow(
        bars=True,
        value="CPUs",
        text="work went on after the clock had stopped",
    ),
    "clock_mismatch": FlagRow(
        bars=True,
        value="seconds",
        text="the worker's clock and the second one disagree",
    ),
    "nan": FlagRow(
        bars=True,
        value="",
        text="a result was not a finite number",
    ),
    "timeout": FlagRow(
        bars=True,
        value="seconds",
        text="the visit was ended at its time limit",
    ),
    "oom": FlagRow(
        bars=True,
        value="seconds",
        text="the visit ran out of memory",
    ),
    "crash": FlagRow(
        bars=True,
        value="seconds",
        text="the process of the visit ended without a result",
    ),
    "drift": FlagRow(
        bars=False,
        value="share",
        text="the machine changed within a block; the pairs of the block carry it",
    ),
}
"""Every flag, the one of a block (drift) last. Thresholds: docs/measuring.md."""


def barring(names: Iterable[str]) -> tuple[str, ...]:
    """Return the flags among `names` that bar a cell; a flag that is not in the table does."""
    return tuple(name for name in names if name not in FLAGS or FLAGS[name].bars)
