"""Compare runs whose samples were taken in turns.

Samples of the same round were taken one right after the other, in the same state of the machine
(docs/decisions/0030). So what all cells of a round have in common is the machine's doing, not a
cell's, and is taken off before cells are compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from tiebreak.stats import intervals
from tiebreak.stats.sample_flags import sample_flags
from tiebreak.stats.visits import Block, Visit, Visits, is_finished

GroupRecords = Mapping[str, Sequence[dict]]
"""The records of one group by cell_id."""


Frame = np.ndarray
"""[rounds] state of the machine in each round of an interleaving, a logarithm."""


def frames(group: Mapping[str, Visits]) -> dict[tuple[Block, str], Frame]:
    """Return the state of the machine by block and interleaving, from all cells of a group.

    It is the mean over cells of the logarithms of their samples, of those cells that have all
    rounds. A mean is the same for all pairs of cells, so that ratios multiply: A/C = A/B · B/C.
    """
    interleaved: dict[tuple[Block, str], list[np.ndarray]] = defaultdict(list)
    for visits in group.values():
        for block, visit in visits.items():
            if visit.turns:
                interleaved[block, visit.turns].append(visit.samples)
    found = {}
    for key, samples in interleaved.items():
        rounds = max(map(len, samples))
        found[key] = np.mean([np.log(row) for row in samples if len(row) == rounds], axis=0)
    return found


def log_samples(
    visit: Visit, block: Block, by_turns: Mapping[tuple[Block, str], Frame]
) -> np.ndarray:
    """Return [rounds] logarithms of a visit's samples, without the state of the machine.

    A visit that was not interleaved keeps them as they are.
    """
    logs = np.log(visit.samples)
    if not visit.turns:
        return logs
    return logs - by_turns[block, visit.turns][: len(logs)]


def paired_logs(
    other: Visit, this: Visit, block: Block, by_turns: Mapping[tuple[Block, str], Frame]
) -> tuple[np.ndarray, np.ndarray]:
    """Return log samples of two visits of a block, whose medians differ by d.

    Two visits of different interleavings share no state of the machine: both are taken as they are.
    """
    if this.turns != other.turns:
        return np.log(other.samples), np.log(this.samples)
    return log_samples(other, block, by_turns), log_samples(this, block, by_turns)


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
    state = intervals.median((logs - intervals.median(logs)[:, None]).T)
    return np.exp(logs - state).tolist()


def _key(record: Mapping) -> tuple[str, int, str]:
    return record["run_id"], record["block"], record["cell_id"]


def _with_flags(record: dict, flags: Mapping[tuple, dict[str, float]]) -> dict:
    added = flags.get(_key(record))
    return {**record, "flags": {**record["flags"], **added}} if added else record
