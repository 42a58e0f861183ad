"""Compare runs whose samples were taken in turns.

Samples of the same round were taken one right after the other, in the same state of the machine
(docs/decisions/0030). So two runs are compared round by round, and what all cells of a round have
in common is the machine's doing, not a cell's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from tiebreak.stats.sample_flags import sample_flags
from tiebreak.stats.visits import Visit, is_finished

GroupRecords = Mapping[str, Sequence[dict]]
"""The records of one group by cell_id."""


def paired_samples(other: Visit, this: Visit) -> tuple[np.ndarray, np.ndarray]:
    """Return samples of `other` and `this` such that the ratio of their medians compares the two.

    If they were interleaved, each sample of `other` is divided by that of `this` in the same
    round, and the samples of `this` become ones. Otherwise both are returned as they are.

    Returns:
      Two arrays of positive times (or ratios of times).
    """
    if not this.turns or this.turns != other.turns:
        return other.samples, this.samples
    rounds = min(len(other.samples), len(this.samples))
    return other.samples[:rounds] / this.samples[:rounds], np.ones(rounds)


def add_sample_flags(group: GroupRecords) -> dict[str, list[dict]]:
    """Return the records, the interleaved ones with flags for how their own samples scatter.

    A worker cannot raise these flags: it does not see what the other cells did in the same round.
    """
    interleaved: dict[tuple, list[dict]] = defaultdict(list)
    for records in group.values():
        for record in records:
            if record.get("turns") and is_finished(record):
                interleaved[record["run_id"], record["block"], record["turns"]].append(record)

    flags: dict[tuple, dict[str, float]] = {}
    for records in interleaved.values():
        steady = _without_machine_state([r["samples_s"] for r in records])
        for record, samples in zip(records, steady, strict=True):
            flags[_key(record)] = sample_flags(samples)
    return {cell: [_with_flags(r, flags) for r in records] for cell, records in group.items()}


def _without_machine_state(samples: Sequence[Sequence[float]]) -> list[list[float]]:
    """Estimate the samples of each cell on a steady machine.

    The state of the machine in a round is the median over cells of how far each cell's sample is
    above its own median (logarithms). With one cell only, nothing can be told apart.

    Args:
      samples: seconds, one sequence per cell.
    """
    if len(samples) == 1:
        return [list(samples[0])]
    rounds = min(map(len, samples))
    logs = np.log([row[:rounds] for row in samples])
    state = np.median(logs - np.median(logs, axis=1, keepdims=True), axis=0)
    return np.exp(logs - state).tolist()


def _key(record: Mapping) -> tuple[str, int, str]:
    return record["run_id"], record["block"], record["cell_id"]


def _with_flags(record: dict, flags: Mapping[tuple, dict[str, float]]) -> dict:
    added = flags.get(_key(record))
    return {**record, "flags": {**record["flags"], **added}} if added else record
