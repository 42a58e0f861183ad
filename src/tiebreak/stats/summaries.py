"""Summaries of cells and groups: data only, for tables, charts and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from tiebreak.stats import flags
from tiebreak.stats.intervals import Verdict

Method = Literal["t", "two-level"]
"""How an interval was computed: Student's, of the blocks alone, or of blocks and rounds
(intervals.two_level_interval)."""

DRIFT = 0.2
"""A group is reported as drifting if a canary changes by more than this share within a block. A
starting value. It is a note only: ratios of a mirrored block survive drift, absolute values do
not."""


class Flag(NamedTuple):
    """A reason to distrust a cell."""

    name: str
    value: Any
    """Worst measured value."""
    visits: int
    """Number of visits that had it."""


class Failure(NamedTuple):
    """A reason why visits of a cell did not finish."""

    reason: str
    blocks: tuple[int, ...]
    """Numbers of the blocks."""


@dataclass(frozen=True)
class Comparison:
    """Speed of one cell relative to another, paired by block.

    Everything but `blocks`, `ratio` and `verdict` is None for a single block.
    """

    blocks: int
    """Number of blocks that both cells finished."""
    ratio: float
    """Ratio of speeds: 2.0 is half the time per unit."""
    low: float | None
    """Low end of the interval of the ratio that the verdict rests on, see `method`."""
    high: float | None
    bootstrap_low: float | None
    bootstrap_high: float | None
    sd: float | None
    """Standard deviation between blocks of the difference of logarithms."""
    p: float | None
    p_holm: float | None
    """p-value after Holm's correction."""
    detectable: float | None
    """Smallest true effect that such a run detects four times in five; 0.05 is 5 %."""
    verdict: Verdict
    method: Method = "t"
    t_low: float | None = None
    """Low end of Student's interval, of the blocks alone."""
    t_high: float | None = None
    bound: float | None = None
    """Largest difference, either way, that is not excluded, corrected for the family; 0.04: 4 %."""

    error: float | None = None
    """Standard error of ln ratio."""
    freedom: float | None = None
    """Its degrees of freedom."""

    @classmethod
    def single_block(cls, ratio: float) -> Comparison:
        """Return the comparison of one block, which tells nothing about how sure its ratio is."""
        return cls(
            blocks=1,
            ratio=ratio,
            low=None,
            high=None,
            bootstrap_low=None,
            bootstrap_high=None,
            sd=None,
            p=None,
            p_holm=None,
            detectable=None,
            verdict="AMBIGUOUS",
        )

    @property
    def half_width(self) -> float | None:
        """Half the width of the interval of the log ratio: 0.015 is ±1.5 %."""
        if self.low is None or self.high is None:
            return None
        return math.log(self.high / self.low) / 2 if self.low > 0 else math.inf

    def inverted(self) -> Comparison:
        """Return the comparison of the other cell with this one."""
        swapped: dict[Verdict, Verdict] = {"FASTER": "SLOWER", "SLOWER": "FASTER"}
        return replace(
            self,
            ratio=1 / self.ratio,
            low=_inverse(self.high),
            high=_inverse(self.low),
            bootstrap_low=_inverse(self.bootstrap_high),
            bootstrap_high=_inverse(self.bootstrap_low),
            t_low=_inverse(self.t_high),
            t_high=_inverse(self.t_low),
            verdict=swapped.get(self.verdict, self.verdict),
        )


@dataclass(frozen=True)
class CellSummary:
    """Summary of one cell of a group. Numbers are None if no visit finished."""

    cell_id: str
    label: str
    cell: Mapping[str, Any]
    """Fields of the cell, and `unit`."""
    visits: int
    """Number of finished visits."""
    seconds_per_unit: float | None
    """Median over visits of their medians."""
    units_per_s: float | None
    """Median over visits of their mean throughput."""
    phases_s: Mapping[str, float]
    """Median over visits of each phase's wall time, without block 0 if there are others: it fills
    the compile cache."""
    memory_bytes: int | None
    """Largest peak resident size of a visit."""
    live_bytes: int | None
    """Median over visits of the memory the library holds at the end; None if it does not tell."""
    slope_bytes_per_call: float | None
    """Median over visits of memory growth per call; None without a memory series."""
    per_call: Mapping[str, float]
    """Work of one call: `units`, and the counted `env_steps` and `updates`."""
    flags: tuple[Flag, ...]
    failures: tuple[Failure, ...]
    comparison: Comparison | None = None
    """Comparison with the group's reference; None for the reference itself."""
    start_s: float = 0.0
    """Seconds from the start of a process with an empty cache to its first result: import, build
    and the first calls up to this probe's, of the first block. 0 if no visit finished."""
    versus_leader: Comparison | None = None
    """Comparison with the group's leader; None for the leader and for barred cells."""
    values_s: tuple[float, ...] = ()
    """Median seconds per unit of each finished visit."""

    @property
    def barred(self) -> tuple[str, ...]:
        """Validity flags, which keep the cell out of all conclusions."""
        return flags.barring(flag.name for flag in self.flags)


@dataclass(frozen=True)
class GroupSummary:
    """Summary of comparable cells measured on one machine, fastest first."""

    group: str
    fingerprint: str
    unit: str
    blocks: int
    """Number of blocks in which any cell finished."""
    reference: str | None
    """cell_id of the reference; None if no cell finished."""
    leader: str | None
    """cell_id of the fastest cell without a validity flag, which the headline names."""
    drift: float | None
    """Largest relative change of a canary within a block of the group; None without canaries."""
    half_width: float | None
    """Largest half-width of the intervals of comparisons with the reference: 0.015 is ±1.5 %."""
    cells: tuple[CellSummary, ...]

    @property
    def ceiling_of(self) -> tuple[str, ...]:
        """Groups in whose charts its cell is a line; empty unless it is a ceiling, of one cell."""
        return tuple(self.cells[0].cell.get("ceiling_of", ())) if self.cells else ()

    def find(self, cell_id: str | None) -> CellSummary | None:
        """Return the cell with this id, or None."""
        return next((c for c in self.cells if c.cell_id == cell_id), None)


def _inverse(value: float | None) -> float | None:
    if value is None:
        return None
    return 1 / value if value else math.inf
