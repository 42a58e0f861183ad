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
from tiebreak.stats.interleaved_pairs import add_sample_flags, paired_samples
from tiebreak.stats.summaries import CellSummary, Comparison, GroupSummary
from tiebreak.stats.visits import Visits, finished_visits, group_records, summarize_cell

K = TypeVar("K")


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
    cells = {key: [summarize_cell(r) for r in group.values()] for key, group in grouped.items()}

    names = {name for group in cells.values() for cell in group for name in _names(cell)}
    if reference is not None and names and reference not in names:
        raise unknown("reference", reference, sorted(names))

    summaries = []
    for key, group in grouped.items():
        visits = {cell_id: finished_visits(r) for cell_id, r in group.items()}
        summary = _summarize_group(key, cells[key], visits, _reference(cells[key], reference))
        summaries.append(replace(summary, drift=drift.get(key)))
    return summaries


def _summarize_group(
    key: tuple[str, str],
    cells: Sequence[CellSummary],
    visits: Mapping[str, Visits],
    reference: str | None,
) -> GroupSummary:
    """Compare cells with the reference, rank them, and compare them with the leader."""
    comparisons = _versus_reference(cells, visits, reference)
    cells = [replace(cell, comparison=comparisons.get(cell.cell_id)) for cell in cells]
    by_id = {cell.cell_id: cell for cell in cells}
    ranked = sorted(cells, key=lambda c: _ranking_s(c, by_id.get(reference or "")))

    finished = [c for c in ranked if c.seconds_per_unit]
    clean = [c for c in finished if not c.flags]
    # A single unflagged cell among flagged ones has not won anything, wherever it stands.
    leader = clean[0] if clean and (len(clean) > 1 or len(finished) == 1) else None
    versus_leader = _versus_leader(clean, visits, reference)
    half_widths = [c.comparison.half_width for c in cells if c.comparison]
    return GroupSummary(
        group=key[0],
        fingerprint=key[1],
        unit=next((c.cell["unit"] for c in ranked if c.cell["unit"]), "units"),
        blocks=len({block for cell in visits.values() for block in cell}),
        reference=reference,
        leader=leader.cell_id if leader else None,
        drift=None,
        half_width=max((w for w in half_widths if w is not None), default=None),
        cells=tuple(replace(c, versus_leader=versus_leader.get(c.cell_id)) for c in ranked),
    )


def _ranking_s(cell: CellSummary, reference: CellSummary | None) -> float:
    """Return seconds per unit for ranking.

    Taken from the paired ratio where there is one, because drift of the machine cancels in it.
    """
    if cell.comparison and reference and reference.seconds_per_unit:
        return reference.seconds_per_unit / cell.comparison.ratio
    return cell.seconds_per_unit or math.inf


def _versus_reference(
    cells: Sequence[CellSummary], visits: Mapping[str, Visits], reference: str | None
) -> dict[str, Comparison]:
    """Compare a group's cells with its reference, as one family."""
    if reference is None:
        return {}
    pairs = {
        c.cell_id: _pair(visits[reference], visits[c.cell_id], stream=c.cell_id)
        for c in cells
        if c.cell_id != reference
    }
    return _judge(pairs, family=len(pairs))


def _versus_leader(
    clean: Sequence[CellSummary], visits: Mapping[str, Visits], reference: str | None
) -> dict[str, Comparison]:
    """Compare every unflagged cell with the leader, the first of them.

    The leader is picked by looking at the results, so that the family of tests among the others
    is all their pairs. With the reference, the declared comparison stands.
    """
    if not clean:
        return {}
    leader, *rest = clean
    if leader.cell_id == reference:
        return {c.cell_id: c.comparison for c in rest if c.comparison}

    others = [c.cell_id for c in rest if c.cell_id != reference]
    pairs = {
        cell_id: _pair(visits[leader.cell_id], visits[cell_id], stream=leader.cell_id + cell_id)
        for cell_id in others
    }
    comparisons = _judge(pairs, family=math.comb(len(others) + 1, 2))
    if leader.comparison and reference in {c.cell_id for c in rest}:
        comparisons[str(reference)] = leader.comparison.inverted()
    return comparisons


class Paired(NamedTuple):
    """One cell against another, before any verdict."""

    blocks: int
    t: intervals.Interval
    bootstrap: tuple[float, float]


def _pair(other: Visits, this: Visits, stream: str) -> Paired | None:
    """Compare `this` with `other` in the blocks that both finished; None if there are none.

    stream: names the random numbers of the bootstrap.
    """
    shared = sorted(other.keys() & this.keys())
    if not shared:
        return None
    samples = [paired_samples(other[block], this[block]) for block in shared]
    d = np.array([math.log(np.median(a)) - math.log(np.median(b)) for a, b in samples])
    seed = derive(0, "bootstrap", stream)
    bootstrap = intervals.bootstrap(*zip(*samples, strict=True), seed=seed)
    return Paired(len(shared), intervals.t_interval(d), bootstrap)


def _judge(pairs: Mapping[K, Paired | None], family: int) -> dict[K, Comparison]:
    """Give verdicts within a family; pairs without a common block still count in its size."""
    paired = {key: pair for key, pair in pairs.items() if pair}
    tested = [key for key, pair in paired.items() if pair.blocks > 1]
    adjusted = intervals.holm([float(paired[key].t.p) for key in tested], family)
    p_holm = dict(zip(tested, adjusted, strict=True))
    return {key: _comparison(pair, p_holm.get(key), family) for key, pair in paired.items()}


def _comparison(pair: Paired, p_holm: float | None, family: int) -> Comparison:
    mean, low, high, p, sd = (float(x) for x in pair.t)
    if p_holm is None:  # a single block
        return Comparison(
            blocks=1,
            ratio=intervals.exp(mean),
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
    return Comparison(
        blocks=pair.blocks,
        ratio=intervals.exp(mean),
        low=intervals.exp(low),
        high=intervals.exp(high),
        bootstrap_low=intervals.exp(pair.bootstrap[0]),
        bootstrap_high=intervals.exp(pair.bootstrap[1]),
        sd=sd,
        p=p,
        p_holm=p_holm,
        detectable=intervals.detectable(sd, pair.blocks, family),
        verdict=intervals.verdict(mean, low, high, p_holm),
    )


def _names(cell: CellSummary) -> tuple[str, str]:
    return cell.label, cell.cell["framework"]


def _reference(cells: Sequence[CellSummary], name: str | None) -> str | None:
    """Return the cell_id of the reference among the cells that finished at least one visit."""
    finished = [c for c in cells if c.visits]
    if not finished:
        return None
    best = min(
        finished, key=lambda c: (name not in _names(c), c.cell["framework"] != "torch", c.label)
    )
    return best.cell_id
