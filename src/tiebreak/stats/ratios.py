"""Summarize benchmark records: one summary per group, with paired ratios, verdicts and flags.

Only visits of the same block of the same run are paired, and records with different fingerprints
never meet in one summary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

import numpy as np

from tiebreak.core.errors import unknown
from tiebreak.core.seeding import derive
from tiebreak.stats import intervals, machine_drift
from tiebreak.stats.interleaved_pairs import Frame, add_sample_flags, frames, paired_logs
from tiebreak.stats.summaries import CellSummary, Comparison, GroupSummary, Method
from tiebreak.stats.visits import (
    Block,
    Visits,
    finished_visits,
    group_records,
    start_seconds,
    summarize_cell,
)

K = TypeVar("K")


class _Group(NamedTuple):
    """A group with its comparisons before any verdict."""

    key: tuple[str, str]
    """(group, fingerprint)."""
    cells: Sequence[CellSummary]
    visits: Mapping[str, Visits]
    frames: Mapping[tuple[Block, str], Frame]
    reference: str | None
    pairs: Mapping[str, Paired | None]
    """The other cells against the reference."""

    def pair(self, other: str, this: str) -> Paired | None:
        """Compare `this` with `other` in the blocks that both finished; None without any."""
        shared = sorted(self.visits[other].keys() & self.visits[this].keys())
        if not shared:
            return None
        samples = [
            paired_logs(self.visits[other][block], self.visits[this][block], block, self.frames)
            for block in shared
        ]
        interleaved = [
            self.visits[other][block].turns == self.visits[this][block].turns != ""
            for block in shared
        ]
        return _paired(samples, all(interleaved), stream=other + this)


class Paired(NamedTuple):
    """One cell against another, before any verdict."""

    d: np.ndarray
    """[blocks] differences of logarithms."""
    expected: float | None
    """Variance between blocks that the rounds give; None with too few rounds to know it."""
    bootstrap: tuple[float, float]

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return len(self.d)

    @property
    def excess(self) -> float | None:
        """Variance between blocks relative to the expected one; None if either is unknown."""
        if self.expected is None or self.blocks < 2:
            return None
        return float(self.d.var(ddof=1)) / self.expected


def summarize(records: Iterable[dict], reference: str | None = None) -> list[GroupSummary]:
    """Summarize all records of a folder, in the order in which groups first appear.

    Args:
      records: records of any kind.
      reference: label or framework of the cell that others are compared with, in the groups that
        have it. By default torch's cell, otherwise the first by label.

    Holm's family is the comparisons of a group with its reference. Raises UsageError for a
    reference that no group has.
    """
    records = list(records)
    drift = machine_drift.drift_by_group(records)
    grouped = {key: add_sample_flags(group) for key, group in group_records(records).items()}
    start_s = start_seconds(r for r in records if r.get("kind") == "visit")
    cells = {
        key: [
            replace(summarize_cell(rows), start_s=start_s.get(i, 0.0)) for i, rows in group.items()
        ]
        for key, group in grouped.items()
    }

    names = {name for group in cells.values() for cell in group for name in _names(cell)}
    if reference is not None and names and reference not in names:
        raise unknown("reference", reference, sorted(names))

    groups = [_prepare(key, cells[key], group, reference) for key, group in grouped.items()]
    scatter = _scatter(groups)
    return [
        replace(_summarize_group(group, scatter[group.key[1]]), drift=drift.get(group.key))
        for group in groups
    ]


def _prepare(
    key: tuple[str, str],
    cells: Sequence[CellSummary],
    records: Mapping[str, Sequence[dict]],
    reference: str | None,
) -> _Group:
    visits = {cell_id: finished_visits(r) for cell_id, r in records.items()}
    chosen = _reference(cells, reference)
    group = _Group(key, cells, visits, frames(visits), chosen, pairs={})
    if chosen is None:
        return group
    others = [c.cell_id for c in cells if c.cell_id != chosen]
    return group._replace(pairs={other: group.pair(chosen, other) for other in others})


def _scatter(groups: Sequence[_Group]) -> dict[str, float | None]:
    """Return the variance between blocks relative to the expected one, by fingerprint.

    It is a mean over the comparisons with references. None with too few of them to know it: then
    intervals are Student's.
    """
    excess: dict[str, list[tuple[float, int]]] = {}
    for group in groups:
        known = excess.setdefault(group.key[1], [])
        known += [(p.excess, p.blocks) for p in group.pairs.values() if p and p.excess is not None]
    return {
        fingerprint: float(intervals.scatter(*np.array(values).T))
        if len(values) >= intervals.LEAST_COMPARISONS
        else None
        for fingerprint, values in excess.items()
    }


def _summarize_group(group: _Group, scatter: float | None) -> GroupSummary:
    """Compare cells with the reference, rank them, and compare them with the leader."""
    reference, visits = group.reference, group.visits
    comparisons = _judge(group.pairs, family=len(group.pairs), scatter=scatter)
    cells = [_with_comparison(cell, comparisons.get(cell.cell_id)) for cell in group.cells]
    by_id = {cell.cell_id: cell for cell in cells}
    ranked = sorted(cells, key=lambda c: _ranking_s(c, by_id.get(reference or "")))

    finished = [c for c in ranked if c.seconds_per_unit]
    valid = [c for c in finished if not c.barred]
    # A single valid cell among barred ones has not won anything, wherever it stands.
    leader = valid[0] if valid and (len(valid) > 1 or len(finished) == 1) else None
    versus_leader = _versus_leader(group, valid, scatter)
    half_widths = [c.comparison.half_width for c in cells if c.comparison]
    return GroupSummary(
        group=group.key[0],
        fingerprint=group.key[1],
        unit=next((c.cell["unit"] for c in ranked if c.cell["unit"]), "units"),
        blocks=len({block for cell in visits.values() for block in cell}),
        reference=reference,
        leader=leader.cell_id if leader else None,
        drift=None,
        half_width=max((w for w in half_widths if w is not None), default=None),
        cells=tuple(replace(c, versus_leader=versus_leader.get(c.cell_id)) for c in ranked),
    )


def _with_comparison(cell: CellSummary, comparison: Comparison | None) -> CellSummary:
    """Return the cell with its comparison, which has no verdict if the cell is barred."""
    if comparison and cell.barred:
        comparison = replace(comparison, verdict="AMBIGUOUS")
    return replace(cell, comparison=comparison)


def _ranking_s(cell: CellSummary, reference: CellSummary | None) -> float:
    """Return seconds per unit for ranking.

    Taken from the paired ratio where there is one, because drift of the machine cancels in it.
    """
    if cell.comparison and reference and reference.seconds_per_unit:
        return reference.seconds_per_unit / cell.comparison.ratio
    return cell.seconds_per_unit or math.inf


def _versus_leader(
    group: _Group, valid: Sequence[CellSummary], scatter: float | None
) -> dict[str, Comparison]:
    """Compare every valid cell with the leader, the first of them.

    The leader is picked by looking at the results, so that the family of tests among the others
    is all their pairs. With the reference, the declared comparison stands.
    """
    if not valid:
        return {}
    leader, *rest = valid
    if leader.cell_id == group.reference:
        return {c.cell_id: c.comparison for c in rest if c.comparison}

    others = [c.cell_id for c in rest if c.cell_id != group.reference]
    pairs = {cell_id: group.pair(leader.cell_id, cell_id) for cell_id in others}
    comparisons = _judge(pairs, family=math.comb(len(others) + 1, 2), scatter=scatter)
    if leader.comparison and group.reference in {c.cell_id for c in rest}:
        comparisons[str(group.reference)] = leader.comparison.inverted()
    return comparisons


def _paired(
    samples: Sequence[tuple[np.ndarray, np.ndarray]], interleaved: bool, stream: str
) -> Paired:
    """Return d by block, and what its rounds and a bootstrap say about it.

    Args:
      samples: log times of the other and of this cell, by block.
      interleaved: True if both took their samples in turns in every block.
      stream: names the random numbers of the bootstrap.
    """
    d = np.array([intervals.median(other) - intervals.median(this) for other, this in samples])
    expected = None
    rounds = min(min(map(len, pair)) for pair in samples)
    if interleaved and rounds >= intervals.LEAST_ROUNDS:
        errors = [intervals.round_error(other[:rounds] - this[:rounds]) for other, this in samples]
        expected = float(intervals.expected_variance(np.array(errors)))
    times = [(np.exp(other), np.exp(this)) for other, this in samples]
    seed = derive(0, "bootstrap", stream)
    return Paired(d, expected, intervals.bootstrap(*zip(*times, strict=True), seed=seed))


def _judge(
    pairs: Mapping[K, Paired | None], family: int, scatter: float | None
) -> dict[K, Comparison]:
    """Give verdicts within a family; pairs without a common block still count in its size."""
    paired = {key: pair for key, pair in pairs.items() if pair}
    estimates = {
        key: _estimate(pair, family, scatter) for key, pair in paired.items() if pair.blocks > 1
    }
    adjusted = intervals.holm([e.p for e in estimates.values()], family)
    p_holm = dict(zip(estimates, adjusted, strict=True))
    return {
        key: _comparison(pair, estimates[key], p_holm[key], family)
        if key in estimates
        else Comparison.single_block(intervals.exp(float(pair.d[0])))
        for key, pair in paired.items()
    }


class _Estimate(NamedTuple):
    """The interval that verdicts rest on."""

    method: Method
    mean: float
    low: float
    high: float
    p: float
    sd: float
    error: float
    """Standard error of the mean."""
    freedom: int
    bound: float
    """Largest difference that is not excluded, corrected for the family."""


def _estimate(pair: Paired, family: int, scatter: float | None) -> _Estimate:
    """Compute the two-level interval if the scatter that is expected is known, else Student's."""
    n = pair.blocks

    def interval(level: float) -> intervals.Interval:
        if pair.expected is None or scatter is None:
            return intervals.t_interval(pair.d, level)
        return intervals.two_level_interval(pair.d, scatter * pair.expected, level)

    two_level = pair.expected is not None and scatter is not None
    mean, low, high, p, sd = (float(x) for x in interval(intervals.LEVEL))
    widest = interval(intervals.LEVEL / max(1, family))
    return _Estimate(
        method="two-level" if two_level else "t",
        mean=mean,
        low=low,
        high=high,
        p=p,
        sd=sd,
        error=sd / math.sqrt(n),
        freedom=intervals.two_level_freedom(n) if two_level else n - 1,
        bound=max(-float(widest.low), float(widest.high)),
    )


def _comparison(pair: Paired, estimate: _Estimate, p_holm: float, family: int) -> Comparison:
    t = intervals.t_interval(pair.d)
    return Comparison(
        blocks=pair.blocks,
        ratio=intervals.exp(estimate.mean),
        low=intervals.exp(estimate.low),
        high=intervals.exp(estimate.high),
        bootstrap_low=intervals.exp(pair.bootstrap[0]),
        bootstrap_high=intervals.exp(pair.bootstrap[1]),
        sd=float(t.sd),
        p=estimate.p,
        p_holm=p_holm,
        detectable=intervals.detectable_from_error(estimate.error, estimate.freedom, family),
        verdict=intervals.verdict(
            estimate.mean, estimate.low, estimate.high, p_holm, bound=estimate.bound
        ),
        method=estimate.method,
        t_low=intervals.exp(float(t.low)),
        t_high=intervals.exp(float(t.high)),
        bound=intervals.exp(estimate.bound) - 1,
        error=estimate.error,
        freedom=estimate.freedom,
    )


def _names(cell: CellSummary) -> tuple[str, str]:
    return cell.label, cell.cell["framework"]


def _reference(cells: Sequence[CellSummary], name: str | None) -> str | None:
    """Return the cell_id of the reference among the cells that finished at least one visit.

    A cell that a validity flag bars is the reference only if all are barred, or if it is named.
    """
    finished = [c for c in cells if c.visits]
    if not finished:
        return None
    best = min(
        finished,
        key=lambda c: (
            name not in _names(c),
            bool(c.barred),
            c.cell["framework"] != "torch",
            c.cell.get("precision", "float32") != "float32",
            c.label,
        ),
    )
    return best.cell_id
