"""Visits that took turns: what two of them say of each other, and what is one's own noise.

The samples of one round are neighbours in time, and met the machine in the same state
(docs/decisions/0030).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from tiebreak.stats.sample_flags import noise
from tiebreak.stats.visits import Visit, finished

Part = Mapping[str, Sequence[dict]]
"""The records of a group, by cell."""


def beside(other: Visit, this: Visit) -> tuple[np.ndarray, np.ndarray]:
    """Samples of two visits, whose medians are to be compared.

    Where they took turns, each sample is divided by its neighbour first (and the others are ones):
    the machine was the same for both, whatever it was in other rounds.
    """
    if not this.turns or this.turns != other.turns:
        return other.samples, this.samples
    rounds = min(len(other.samples), len(this.samples))
    return other.samples[:rounds] / this.samples[:rounds], np.ones(rounds)


def with_noise(part: Part) -> dict[str, list[dict]]:
    """The same records; those that took turns with the flags of what they do not have in common."""
    sets: dict[tuple, list[dict]] = defaultdict(list)
    for rows in part.values():
        for r in rows:
            if r.get("turns") and finished(r):
                sets[r["run_id"], r["block"], r["turns"]].append(r)
    found = {
        (r["run_id"], r["block"], r["cell_id"]): noise(own)
        for rows in sets.values()
        for r, own in zip(rows, _own([r["samples_s"] for r in rows]), strict=True)
    }
    return {cell: [_flagged(r, found) for r in rows] for cell, rows in part.items()}


def _own(samples: Sequence[Sequence[float]]) -> list[list[float]]:
    """What each cell's samples would have been on a steady machine: the median of what all cells
    did in a round is the machine's doing. Of one cell alone nothing is known to be.
    """
    if len(samples) == 1:
        return [list(samples[0])]
    rounds = min(map(len, samples))
    logs = np.log([row[:rounds] for row in samples])
    common = np.median(logs - np.median(logs, axis=1, keepdims=True), axis=0)
    return np.exp(logs - common).tolist()


def _flagged(record: dict, found: Mapping[tuple, dict[str, float]]) -> dict:
    own = found.get((record["run_id"], record["block"], record["cell_id"]))
    return {**record, "flags": {**record["flags"], **own}} if own else record
