"""Compare two results folders cell by cell: a baseline A and a candidate B (docs/decisions/0018).

The two were measured at different times: their blocks are not interleaved, and no pair of visits
met the machine in the same state. So the visits of A and B are two independent samples, and each
interval is widened by how much the machine itself may have changed, estimated from its canaries. If
speeds are taken relative to another cell, they are paired within each run, and only then compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tiebreak.core.errors import UsageError
from tiebreak.stats import flags, hardware_diff, intervals, machine_drift, result_set, visits
from tiebreak.stats.result_set import ResultSet
from tiebreak.stats.summaries import CellSummary, Comparison

HIDDEN_SHIFT = 0.01
"""How much two runs of the same program may differ though no canary changed. A starting value:
repeated runs of one commit show what it is on a machine."""
UNSHARED = 0.5
"""Share of the machine's shift by which two cells may be affected differently. A starting value."""
MAX_SHIFT = 0.1
"""Above this shift of the machine, no cell gets a verdict by itself. A starting value."""
REFERENCE = "reference"
"""`CellPair.why` of the cell that others' speeds are relative to."""


@dataclass(frozen=True)
class CellPair:
    """One cell in both folders."""

    cell_id: str
    group: str
    a: CellSummary
    b: CellSummary
    change: Comparison | None
    """Speed of B relative to A: 0.95 is slower. Not paired by block: no bootstrap and no sd."""
    why: str
    """Why there is no verdict; empty if there is one."""
    is_comparable: bool = True
    """Whether both were measured on the same hardware."""

    @property
    def slowdown(self) -> float | None:
        """Additional time of B as a share of A's, by estimate; negative if B is faster.

        None where A and B are not to be compared: other hardware, or no finished visit.
        """
        if self.change:
            return 1 / self.change.ratio - 1
        if not self.is_comparable or not self.a.seconds_per_unit or not self.b.seconds_per_unit:
            return None
        return self.b.seconds_per_unit / self.a.seconds_per_unit - 1

    @property
    def slowdown_limit(self) -> float | None:
        """The largest slowdown that the interval does not exclude; None without an interval."""
        return 1 / self.change.low - 1 if self.change and self.change.low else None

    @property
    def broke(self) -> bool:
        """True if it finished in A and not once in B."""
        return bool(self.a.visits and not self.b.visits)


@dataclass(frozen=True)
class FolderComparison:
    """Comparison of two folders."""

    a: ResultSet
    b: ResultSet
    same_hardware: bool
    differences: tuple[hardware_diff.FactDiff, ...]
    relative_to: str | None
    """Label or framework that speeds are relative to."""
    shift: machine_drift.Shift | None
    """Shift of the machine between the runs; None if canaries cannot tell."""
    allowance: float
    """By how much each interval is widened at both ends; a logarithm."""
    obstacle: str
    """Why no cell can get a verdict; empty if cells can."""
    pairs: tuple[CellPair, ...]
    only_a: tuple[tuple[str, str], ...]
    """(group, label) of the cells that B does not have."""
    only_b: tuple[tuple[str, str], ...]
    """(group, label) of the cells that A does not have."""

    @property
    def judged(self) -> list[CellPair]:
        """Pairs that have a verdict."""
        return [pair for pair in self.pairs if pair.change and not pair.why]


def compare(
    records_a: Sequence[dict], records_b: Sequence[dict], relative_to: str | None = None
) -> FolderComparison:
    """Compare all records of a baseline with all records of a candidate.

    Args:
      records_a: records of the baseline.
      records_b: records of the candidate.
      relative_to: label or framework of a cell that the change does not concern. All speeds are
        taken relative to it, within the same group and run.

    Raises UsageError for a name that no cell has, for two copies of one run, and if no cell is in
    both folders.
    """
    a = result_set.from_records(records_a)
    b = result_set.from_records(records_b)
    common = _common_cells(a, b)
    same_hardware = hardware_diff.same_hardware(a.machine, b.machine)
    shift = machine_drift.shift(*result_set.comparable_canaries(a, b))
    allowance = _allowance(shift, relative=relative_to is not None)
    obstacle = _obstacle(same_hardware, shift, relative=relative_to is not None)
    samples = _samples(a, b, common, relative_to)
    samples = [s._replace(why=s.why or obstacle) for s in samples]
    return FolderComparison(
        a=a,
        b=b,
        same_hardware=same_hardware,
        differences=tuple(result_set.differences(a, b, common)),
        relative_to=relative_to,
        shift=shift,
        allowance=allowance,
        obstacle=obstacle,
        pairs=tuple(_judge(a, b, samples, allowance, same_hardware)),
        only_a=_cells_without(a, b),
        only_b=_cells_without(b, a),
    )


def _common_cells(a: ResultSet, b: ResultSet) -> list[str]:
    """Return the cell_ids that are in both; raise UsageError if the two cannot be compared."""
    if a.runs & b.runs:
        raise UsageError(
            "both folders hold the same run: there is nothing to compare; measure the candidate "
            "with `tiebreak run`, into a folder of its own"
        )
    common = [i for i in a.cells if i in b.cells]
    if not common:
        raise UsageError(
            f"no cell is in both folders: {a.example!r} is in A, {b.example!r} in B; run the "
            "same suite for both"
        )
    return common


def _cells_without(one: ResultSet, other: ResultSet) -> tuple[tuple[str, str], ...]:
    """Return (group, label) of the cells of `one` that `other` does not have."""
    return tuple((one.groups[i], c.label) for i, c in one.cells.items() if i not in other.cells)


def _allowance(shift: machine_drift.Shift | None, relative: bool) -> float:
    bound = MAX_SHIFT if shift is None else shift.bound
    return HIDDEN_SHIFT + bound * (UNSHARED if relative else 1.0)


def _obstacle(same_hardware: bool, shift: machine_drift.Shift | None, relative: bool) -> str:
    """Return why no cell can get a verdict, or an empty text."""
    if not same_hardware:
        return "measured on different hardware"
    if relative:
        return ""
    if shift is None:
        return "no canary tells whether the machine is as it was"
    if shift.largest > MAX_SHIFT:
        return "the machine changed too much between the runs"
    return ""


class _Samples(NamedTuple):
    """A cell as two samples: one logarithm of speed per visit."""

    cell_id: str
    a: list[float]
    b: list[float]
    why: str
    """Why there can be no verdict; empty if there can be."""


def _samples(
    a: ResultSet, b: ResultSet, common: Sequence[str], relative_to: str | None
) -> list[_Samples]:
    if relative_to is None:
        return [_cell_samples(a, b, i, reference=None) for i in common]

    reference = result_set.references(a, common, relative_to)
    samples = []
    for i in common:
        reference_id = reference.get(a.groups[i])
        if reference_id is None:
            why = _unfinished(a, b, i) or f"no {relative_to} in its group"
            samples.append(_Samples(i, a=[], b=[], why=why))
        elif reference_id == i:
            samples.append(_Samples(i, a=[], b=[], why=_unfinished(a, b, i) or REFERENCE))
        else:
            samples.append(_cell_samples(a, b, i, reference_id))
    return samples


def _cell_samples(a: ResultSet, b: ResultSet, cell_id: str, reference: str | None) -> _Samples:
    logs_a = _log_speeds(a, cell_id, reference)
    logs_b = _log_speeds(b, cell_id, reference)
    why = _unfinished(a, b, cell_id) or _flagged(a, b, cell_id, reference)
    if not why and min(len(logs_a), len(logs_b)) < 2:
        where = "in blocks of the reference" if reference else "a side"
        why = f"fewer than two visits {where}"
    return _Samples(cell_id, logs_a, logs_b, why)


def _log_speeds(results: ResultSet, cell_id: str, reference: str | None) -> list[float]:
    """Return the logarithm of speed of each visit, or of each that the reference shares a block.

    With a reference, the speed is relative to that of the reference in the same block.
    """
    finished = visits.finished_visits(results.records[cell_id])
    if reference is None:
        return [-math.log(visit.value_s) for visit in finished.values()]
    base = visits.finished_visits(results.records[reference])
    return [
        math.log(base[block].value_s / visit.value_s)
        for block, visit in finished.items()
        if block in base
    ]


def _unfinished(a: ResultSet, b: ResultSet, cell_id: str) -> str:
    sides = [name for name, side in (("A", a), ("B", b)) if not side.cells[cell_id].visits]
    return f"no visit finished in {' and '.join(sides)}" if sides else ""


def _flagged(a: ResultSet, b: ResultSet, cell_id: str, reference: str | None) -> str:
    for i, prefix in ((cell_id, ""), (reference, "reference ")):
        for name, side in (("A", a), ("B", b)):
            names = [flag.name for flag in side.cells[i].flags] if i else ()
            if barring := flags.barring(names):
                return f"{prefix}flagged in {name}: {', '.join(barring)}"
    return ""


def _judge(
    a: ResultSet,
    b: ResultSet,
    samples: Sequence[_Samples],
    allowance: float,
    same_hardware: bool,
) -> list[CellPair]:
    """Give verdicts; all cells are one family, because one question is asked of a whole folder."""
    differences = {
        s.cell_id: intervals.welch(s.a, s.b, allowance)
        for s in samples
        if same_hardware and min(len(s.a), len(s.b)) > 1
    }
    tested = [s.cell_id for s in samples if s.cell_id in differences and not s.why]
    adjusted = intervals.holm([differences[i].p for i in tested], len(tested))
    p_holm = dict(zip(tested, adjusted, strict=True))
    pairs = []
    for s in samples:
        difference = differences.get(s.cell_id)
        change = None
        if difference is not None:
            change = _change(
                difference,
                blocks=min(len(s.a), len(s.b)),
                p_holm=p_holm.get(s.cell_id),
                family=len(tested),
                allowance=allowance,
            )
        pairs.append(
            CellPair(
                cell_id=s.cell_id,
                group=a.groups[s.cell_id],
                a=a.cells[s.cell_id],
                b=b.cells[s.cell_id],
                change=change,
                why=s.why,
                is_comparable=same_hardware,
            )
        )
    return pairs


def _change(
    difference: intervals.Difference,
    blocks: int,
    p_holm: float | None,
    family: int,
    allowance: float,
) -> Comparison:
    verdict: intervals.Verdict = "AMBIGUOUS"
    if p_holm is not None:
        verdict = intervals.verdict(difference.mean, difference.low, difference.high, p_holm)
    return Comparison(
        blocks=blocks,
        ratio=intervals.exp(difference.mean),
        low=intervals.exp(difference.low),
        high=intervals.exp(difference.high),
        bootstrap_low=None,
        bootstrap_high=None,
        sd=None,
        p=difference.p,
        p_holm=p_holm,
        detectable=intervals.detectable_from_error(
            difference.error, difference.freedom, max(1, family), allowance
        ),
        verdict=verdict,
    )
