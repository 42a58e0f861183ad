"""Two results folders, cell by cell: a baseline A and a candidate B (docs/decisions/0018).

The two were measured at different times: their blocks are not interleaved, and no pair of visits
shares the machine's luck. So their visits are two independent samples, and each interval is widened
by what may set the runs apart as a whole, going by the canaries. A cell's speed relative to another
cell is paired within each run, and only then compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tiebreak.core.errors import UsageError
from tiebreak.stats import hardware_diff, intervals, machine_drift, result_set, visits
from tiebreak.stats.result_set import Side
from tiebreak.stats.summaries import CellSummary, Comparison

UNSEEN = 0.01
"""How far two runs of the same program may lie apart though no canary moved. A starting value: runs
of one commit, repeated on a machine, show what it is there."""
COMMON = 0.5
"""The share of the machine's move by which two cells may be moved differently. A starting value."""
REFERENCE = "reference"
"""What stands as a pair's `why` if the others' speeds are relative to its own."""
TOO_FAR = 0.1
"""A move of the machine from which on no cell is judged alone. A starting value."""


@dataclass(frozen=True)
class Pair:
    """One cell in both folders."""

    cell_id: str
    group: str
    a: CellSummary
    b: CellSummary
    change: Comparison | None
    """B's speed by A's: 0.95 is slower. Not paired by block, so without bootstrap and sd."""
    why: str
    """Why no verdict was to be had; empty where one was."""

    @property
    def slowdown(self) -> float | None:
        """How much more time B takes, as a share; negative if less."""
        return 1 / self.change.ratio - 1 if self.change else None

    @property
    def broke(self) -> bool:
        """Whether it worked in A and not once in B."""
        return bool(self.a.visits and not self.b.visits)


@dataclass(frozen=True)
class Compared:
    """Everything that is said of two folders."""

    a: Side
    b: Side
    same_hardware: bool
    differences: tuple[hardware_diff.Fact, ...]
    relative_to: str | None
    shift: machine_drift.Shift | None
    """Of the machine between the runs; None where canaries cannot tell."""
    allowance: float
    """By what each interval is widened at both ends: a logarithm."""
    obstacle: str
    """Why no cell could get a verdict; empty where cells could."""
    pairs: tuple[Pair, ...]
    only_a: tuple[tuple[str, str], ...]
    """Group and label of the cells that B does not have."""
    only_b: tuple[tuple[str, str], ...]

    @property
    def judged(self) -> list[Pair]:
        """Those for which a verdict was to be had."""
        return [p for p in self.pairs if p.change and not p.why]


def compare(a: Sequence[dict], b: Sequence[dict], relative_to: str | None = None) -> Compared:
    """All records of the baseline and of the candidate -> what may be said of their cells.

    relative_to: label or framework of the cell to whose speed, in the same group and run, the
    others' is taken: one that the change does not concern. Raises UsageError for a name that no
    cell has, for two copies of one run, and where no cell is in both.
    """
    one, other = result_set.side(a), result_set.side(b)
    if one.runs & other.runs:
        raise UsageError(
            "both folders hold the same run: there is nothing to compare; measure the candidate "
            "with `tiebreak run`, into a folder of its own"
        )
    common = [i for i in one.cells if i in other.cells]
    if not common:
        raise UsageError(
            f"no cell is in both folders: {one.example!r} is in A, {other.example!r} in B; run the "
            "same suite for both"
        )
    same = hardware_diff.same_hardware(one.machine, other.machine)
    moved = machine_drift.shift(*result_set.comparable_canaries(one, other))
    allowance = _allowance(moved, relative=relative_to is not None)
    obstacle = "" if relative_to else _unrest(moved)
    if not same:
        obstacle = "measured on different hardware"
    cells = _cells(one, other, common, relative_to)
    cells = [c._replace(why=c.why or obstacle) for c in cells]
    return Compared(
        a=one,
        b=other,
        same_hardware=same,
        differences=tuple(result_set.differences(one, other, common)),
        relative_to=relative_to,
        shift=moved,
        allowance=allowance,
        obstacle=obstacle,
        pairs=tuple(_judged(one, other, cells, allowance, same)),
        only_a=_without(one, other),
        only_b=_without(other, one),
    )


def _without(one: Side, other: Side) -> tuple[tuple[str, str], ...]:
    return tuple((one.groups[i], c.label) for i, c in one.cells.items() if i not in other.cells)


def _allowance(moved: machine_drift.Shift | None, relative: bool) -> float:
    bound = TOO_FAR if moved is None else moved.bound
    return UNSEEN + bound * (COMMON if relative else 1.0)


def _unrest(moved: machine_drift.Shift | None) -> str:
    if moved is None:
        return "no canary tells whether the machine is as it was"
    return "the machine changed too much between the runs" if moved.largest > TOO_FAR else ""


class _Cell(NamedTuple):
    """A cell of both sides as two samples: one logarithm of speed per visit."""

    cell_id: str
    a: list[float]
    b: list[float]
    why: str


def _cells(a: Side, b: Side, common: Sequence[str], relative_to: str | None) -> list[_Cell]:
    base = result_set.references(a, common, relative_to) if relative_to is not None else {}
    out = []
    for i in common:
        against = base.get(a.groups[i])
        if relative_to is not None and against in (None, i):
            why = REFERENCE if against else f"no {relative_to} in its group"
            out.append(_Cell(i, [], [], _unfinished(a, b, i) or why))
            continue
        one, other = (_logs(s.rows[i], s.rows[against] if against else None) for s in (a, b))
        why = _unfinished(a, b, i) or _flagged(a, b, i, against)
        if not why and min(len(one), len(other)) < 2:
            why = f"fewer than two visits {'in blocks of the reference' if against else 'a side'}"
        out.append(_Cell(i, one, other, why))
    return out


def _logs(rows: Sequence[dict], reference: Sequence[dict] | None) -> list[float]:
    """Of speed per visit; relative to the reference's in the same block, if there is one."""
    found = visits.timed(rows)
    if reference is None:
        return [-math.log(v.value_s) for v in found.values()]
    base = visits.timed(reference)
    return [math.log(base[k].value_s / v.value_s) for k, v in found.items() if k in base]


def _unfinished(a: Side, b: Side, cell_id: str) -> str:
    lacking = [name for name, s in (("A", a), ("B", b)) if not s.cells[cell_id].visits]
    return f"no visit finished in {' and '.join(lacking)}" if lacking else ""


def _flagged(a: Side, b: Side, cell_id: str, reference: str | None) -> str:
    for i, whose in ((cell_id, ""), (reference, "reference ")):
        for name, s in (("A", a), ("B", b)):
            flags = s.cells[i].flags if i else ()
            if flags:
                return f"{whose}flagged in {name}: {', '.join(f.name for f in flags)}"
    return ""


def _judged(a: Side, b: Side, cells: Sequence[_Cell], allowance: float, same: bool) -> list[Pair]:
    """Verdicts; all of them are one family, because one question is asked of a whole folder."""
    found = {
        c.cell_id: intervals.welch(c.a, c.b, allowance)
        for c in cells
        if same and min(len(c.a), len(c.b)) > 1
    }
    asked = [c.cell_id for c in cells if c.cell_id in found and not c.why]
    adjusted = intervals.holm([found[i].p for i in asked], len(asked))
    p_holm = dict(zip(asked, adjusted, strict=True))
    return [
        Pair(
            cell_id=c.cell_id,
            group=a.groups[c.cell_id],
            a=a.cells[c.cell_id],
            b=b.cells[c.cell_id],
            change=_change(c, found.get(c.cell_id), p_holm.get(c.cell_id), len(asked), allowance),
            why=c.why,
        )
        for c in cells
    ]


def _change(
    cell: _Cell,
    found: intervals.Difference | None,
    p_holm: float | None,
    family: int,
    allowance: float,
) -> Comparison | None:
    if found is None:
        return None
    seen = intervals.visible(found.error, found.freedom, max(1, family), allowance)
    return Comparison(
        blocks=min(len(cell.a), len(cell.b)),
        ratio=intervals.exp(found.mean),
        low=intervals.exp(found.low),
        high=intervals.exp(found.high),
        bootstrap_low=None,
        bootstrap_high=None,
        sd=None,
        p=found.p,
        p_holm=p_holm,
        detectable=seen,
        verdict="AMBIGUOUS"
        if p_holm is None
        else intervals.verdict(found.mean, found.low, found.high, p_holm),
    )
