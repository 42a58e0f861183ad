"""What is known about a cell and a group after a run: data only, for tables, charts and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from tiebreak.stats.intervals import Verdict

DRIFT = 0.2
"""A canary's move within a block, as a share, from which on a group is said to drift. A starting
value. It is a note: pairs of a mirrored block survive a drift, absolute values do not."""


class Flag(NamedTuple):
    """One reason to distrust a cell, with its worst measured value and how many visits had it."""

    name: str
    value: Any
    visits: int


class Failure(NamedTuple):
    """Why visits did not finish, and in which blocks."""

    reason: str
    blocks: tuple[int, ...]


@dataclass(frozen=True)
class Comparison:
    """One cell's speed against another's, paired by block: ratio 2.0 is half the time per unit.

    Numbers are None where one block says nothing.
    """

    blocks: int
    ratio: float
    low: float | None
    high: float | None
    bootstrap_low: float | None
    bootstrap_high: float | None
    sd: float | None
    """Of the difference of logarithms, between blocks."""
    p: float | None
    p_holm: float | None
    detectable: float | None
    """Smallest true effect that such a run would see four times in five; 0.05 is 5 %."""
    verdict: Verdict

    @property
    def half_width(self) -> float | None:
        """Of the interval, on the logarithm: 0.015 is ±1.5 %."""
        if self.low is None or self.high is None:
            return None
        return math.log(self.high / self.low) / 2 if self.low > 0 else math.inf

    def inverted(self) -> Comparison:
        """The same comparison seen from the other cell."""
        swapped: dict[Verdict, Verdict] = {"FASTER": "SLOWER", "SLOWER": "FASTER"}
        return replace(
            self,
            ratio=1 / self.ratio,
            low=_inverse(self.high),
            high=_inverse(self.low),
            bootstrap_low=_inverse(self.bootstrap_high),
            bootstrap_high=_inverse(self.bootstrap_low),
            verdict=swapped.get(self.verdict, self.verdict),
        )


@dataclass(frozen=True)
class CellSummary:
    """One cell of a group. Numbers are None where no visit finished."""

    cell_id: str
    label: str
    cell: Mapping[str, Any]
    visits: int
    """Finished ones."""
    seconds_per_unit: float | None
    """Median of the visits' medians."""
    units_per_s: float | None
    """Median of the visits' mean throughput."""
    phases_s: Mapping[str, float]
    """Medians of the visits' phases."""
    memory_bytes: int | None
    """Largest peak of a visit."""
    live_bytes: int | None
    """What the library held at the end: median of the visits. None where it does not tell."""
    slope_bytes_per_call: float | None
    """Growth of memory per call: median of the visits. None where no series was taken."""
    per_call: Mapping[str, float]
    """What one call does: its units (`units`), and the work that was counted, by name."""
    flags: tuple[Flag, ...]
    failures: tuple[Failure, ...]
    comparison: Comparison | None = None
    """Against the group's reference; None for the reference itself."""
    versus_leader: Comparison | None = None
    """Against the group's leader; None for the leader and for flagged cells."""


@dataclass(frozen=True)
class GroupSummary:
    """Cells that may be compared, fastest first, measured on one machine."""

    group: str
    fingerprint: str
    unit: str
    blocks: int
    reference: str | None
    """Its cell_id; None where nothing finished."""
    leader: str | None
    """cell_id of the fastest cell without flags: the only kind that a headline may name."""
    drift: float | None
    """Largest move of a canary within one of the group's blocks, as a share; None without any."""
    half_width: float | None
    """Largest half-width of the intervals against the reference: 0.015 is ±1.5 %."""
    cells: tuple[CellSummary, ...]

    def find(self, cell_id: str | None) -> CellSummary | None:
        """The cell with this id."""
        return next((c for c in self.cells if c.cell_id == cell_id), None)


def _inverse(value: float | None) -> float | None:
    if value is None:
        return None
    return 1 / value if value else math.inf
