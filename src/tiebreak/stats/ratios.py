"""Bench records -> one summary per group: values, ratios paired by block, verdicts, flags.

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
from tiebreak.stats import interleaved_pairs, intervals, machine_drift, visits
from tiebreak.stats.summaries import CellSummary, Comparison, GroupSummary
from tiebreak.stats.visits import Visits

K = TypeVar("K")


def summarize(records: Iterable[dict], reference: str | None = None) -> list[GroupSummary]:
    """All records of a folder -> summaries, in the order in which groups appear.

    reference: label or framework of the cell to compare with, in the groups that have it;
    otherwise torch's, otherwise the first by label. Holm's family is a group's comparisons with its
    reference. Raises UsageError for a reference that no group has.
    """
    records = list(records)
    grouped = {k: interleaved_pairs.with_noise(part) for k, part in visits.group(records).items()}
    drifts = machine_drift.drift(records)
    cells = {key: [visits.summary(rows) for rows in part.values()] for key, part in grouped.items()}
    timed = {k: {c: visits.timed(rows) for c, rows in p.items()} for k, p in grouped.items()}
    names = {n for part in cells.values() for c in part for n in _names(c)}
    if reference is not None and names and reference not in names:
        raise unknown("reference", reference, sorted(names))
    chosen = {key: _reference(part, reference) for key, part in cells.items()}
    summaries = []
    for key, part in cells.items():
        final = _against(timed[key], [c.cell_id for c in part], chosen[key])
        compared = [replace(c, comparison=final.get(c.cell_id)) for c in part]
        summary = _summary(key, compared, timed[key], chosen[key])
        summaries.append(replace(summary, drift=drifts.get(key)))
    return summaries


def _against(
    timed: Mapping[str, Visits], cells: Sequence[str], reference: str | None
) -> dict[str, Comparison]:
    """A group's cells against its reference, as one family."""
    if reference is None:
        return {}
    raw = {c: _pair(timed[reference], timed[c], c) for c in cells if c != reference}
    return _judge(raw, family=len(raw))


class Paired(NamedTuple):
    """One cell against another, before any verdict."""

    blocks: int
    t: intervals.Interval
    bootstrap: tuple[float, float]


def _pair(other: Visits, this: Visits, stream: str) -> Paired | None:
    """How much faster `this` is than `other` in the blocks that both finished; None without any.

    stream names the bootstrap's random numbers.
    """
    shared = sorted(other.keys() & this.keys())
    if not shared:
        return None
    samples = [interleaved_pairs.beside(other[k], this[k]) for k in shared]
    d = np.array([math.log(np.median(a)) - math.log(np.median(b)) for a, b in samples])
    seed = derive(0, "bootstrap", stream)
    bootstrap = intervals.bootstrap(*zip(*samples, strict=True), seed=seed)
    return Paired(len(shared), intervals.t_interval(d), bootstrap)


def _judge(raw: Mapping[K, Paired | None], family: int) -> dict[K, Comparison]:
    """Verdicts within a family; comparisons that never came about still count in its size."""
    found = {key: paired for key, paired in raw.items() if paired}
    tested = [key for key, paired in found.items() if paired.blocks > 1]
    adjusted = intervals.holm([float(found[key].t.p) for key in tested], family)
    p_holm = dict(zip(tested, adjusted, strict=True))
    return {key: _comparison(paired, p_holm.get(key), family) for key, paired in found.items()}


def _comparison(paired: Paired, p_holm: float | None, family: int) -> Comparison:
    mean, low, high, p, sd = (float(x) for x in paired.t)
    if p_holm is None:
        return Comparison(1, intervals.exp(mean), *[None] * 8, verdict="AMBIGUOUS")
    return Comparison(
        blocks=paired.blocks,
        ratio=intervals.exp(mean),
        low=intervals.exp(low),
        high=intervals.exp(high),
        bootstrap_low=intervals.exp(paired.bootstrap[0]),
        bootstrap_high=intervals.exp(paired.bootstrap[1]),
        sd=sd,
        p=p,
        p_holm=p_holm,
        detectable=intervals.detectable(sd, paired.blocks, family),
        verdict=intervals.verdict(mean, low, high, p_holm),
    )


def _summary(
    key: tuple[str, str],
    cells: Sequence[CellSummary],
    timed: Mapping[str, Visits],
    reference: str | None,
) -> GroupSummary:
    """Rank, find the leader, and compare the others with it."""
    by_id = {c.cell_id: c for c in cells}
    ranked = sorted(cells, key=lambda c: _paired_s(c, by_id.get(reference or "")))
    finished = [c for c in ranked if c.seconds_per_unit]
    clean = [c for c in finished if not c.flags]
    # The only one without a flag has won nothing, wherever it stands.
    leader = clean[0] if clean and (clean[1:] or len(finished) == 1) else None
    versus = _versus_leader(clean, timed, reference)
    widths = [w for c in cells if c.comparison and (w := c.comparison.half_width) is not None]
    return GroupSummary(
        group=key[0],
        fingerprint=key[1],
        unit=next((c.cell["unit"] for c in ranked if c.cell["unit"]), "units"),
        blocks=len({block for cell in timed.values() for block in cell}),
        reference=reference,
        leader=leader and leader.cell_id,
        drift=None,
        half_width=max(widths, default=None),
        cells=tuple(replace(c, versus_leader=versus.get(c.cell_id)) for c in ranked),
    )


def _paired_s(cell: CellSummary, reference: CellSummary | None) -> float:
    """Seconds per unit for ranking: by the paired ratio, which the machine's drift leaves alone."""
    if cell.comparison and reference and reference.seconds_per_unit:
        return reference.seconds_per_unit / cell.comparison.ratio
    return cell.seconds_per_unit or math.inf


def _versus_leader(
    clean: Sequence[CellSummary], timed: Mapping[str, Visits], reference: str | None
) -> dict[str, Comparison]:
    """Every unflagged cell against the leader.

    The leader is picked by looking, so the tests among non-reference cells count all their
    pairs. Against the reference the declared comparison stands.
    """
    if not clean:
        return {}
    leader, *rest = clean
    if leader.cell_id == reference:
        return {c.cell_id: c.comparison for c in rest if c.comparison}
    others = [c.cell_id for c in rest if c.cell_id != reference]
    raw = {i: _pair(timed[leader.cell_id], timed[i], leader.cell_id + i) for i in others}
    out = _judge(raw, family=math.comb(len(others) + 1, 2))
    if leader.comparison and reference in {c.cell_id for c in rest}:
        out[str(reference)] = leader.comparison.inverted()
    return out


def _names(cell: CellSummary) -> tuple[str, str]:
    return cell.label, cell.cell["framework"]


def _reference(cells: Sequence[CellSummary], wanted: str | None) -> str | None:
    """The cell that others are compared with: it must have finished at least one visit."""
    done = sorted((c for c in cells if c.visits), key=lambda c: c.label)
    ranked = sorted(done, key=lambda c: (wanted not in _names(c), c.cell["framework"] != "torch"))
    return ranked[0].cell_id if ranked else None
