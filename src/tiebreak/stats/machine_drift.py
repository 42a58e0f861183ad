"""Estimate from canaries how much the machine changed, within a block and between two runs.

A canary is a fixed piece of work, timed before and after each block. It shows that the machine has
changed; no measurement is ever rescaled by it. A ratio that is paired within mirrored blocks
survives such a change; an absolute value, such as steps per second, does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Reading = Mapping[str, float]
"""Seconds of each canary, by name."""


class CanaryPair(NamedTuple):
    """The canaries before and after the visits of one block."""

    block: int
    before: Reading
    after: Reading
    groups: frozenset[tuple[str, str]]
    """Group and fingerprint of the visits in between."""

    @property
    def largest_change(self) -> float:
        """Largest relative change of a canary; 0 if none was timed twice."""
        both = [n for n in self.before if n in self.after and self.before[n] > 0]
        return max((abs(self.after[n] / self.before[n] - 1) for n in both), default=0.0)


def canary_pairs(records: Sequence[Mapping[str, Any]]) -> Iterator[CanaryPair]:
    """Yield the canaries of each complete block, in the order of the records.

    Leaves out calibration (negative block numbers) and blocks that were interrupted.
    """
    first: Mapping[str, Any] | None = None
    groups: set[tuple[str, str]] = set()
    for r in records:
        if r["kind"] == "visit":
            groups.add((r["group"], r["fingerprint"]))
        elif r["kind"] == "canary" and r["when"] == "open":
            first, groups = r, set()
        elif r["kind"] == "canary" and first is not None:
            if first["block"] == r["block"] >= 0:
                yield CanaryPair(
                    block=r["block"],
                    before=first["values_s"],
                    after=r["values_s"],
                    groups=frozenset(groups),
                )
            first = None


def drift_by_group(records: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], float]:
    """Return {(group, fingerprint): largest relative change of a canary within a block}."""
    drift: dict[tuple[str, str], float] = {}
    for pair in canary_pairs(records):
        for key in pair.groups:
            drift[key] = max(drift.get(key, 0.0), pair.largest_change)
    return drift


class Shift(NamedTuple):
    """Estimated change of the machine's speed between two runs, as logarithms."""

    largest: float
    """Largest difference between the runs of a canary's level."""
    bound: float
    """Largest of these differences, each plus one standard error: an upper estimate."""


def shift(a: Sequence[Reading], b: Sequence[Reading]) -> Shift | None:
    """Estimate the shift of the machine between two runs, from all their canary readings.

    Returns None if no canary was read at least twice in each run.
    """
    if not a or not b:
        return None
    estimates = []
    for name in a[0].keys() & b[0].keys():
        logs_a, logs_b = (
            [math.log(reading[name]) for reading in run if reading.get(name, 0) > 0]
            for run in (a, b)
        )
        if min(len(logs_a), len(logs_b)) < 2:
            continue
        level_a, error_a = _level(logs_a)
        level_b, error_b = _level(logs_b)
        difference = abs(level_a - level_b)
        estimates.append((difference, difference + math.hypot(error_a, error_b)))
    if not estimates:
        return None
    return Shift(largest=max(d for d, _ in estimates), bound=max(b for _, b in estimates))


def _level(logs: Sequence[float]) -> tuple[float, float]:
    """Return the interquartile mean and its standard error, from the winsorized variance.

    A canary lasts milliseconds: a single interruption must not look like another machine.
    (Yuen 1974, "The two-sample trimmed t for unequal population variances".)
    """
    x = np.sort(np.asarray(logs))
    cut = len(x) // 4
    kept = x[cut : len(x) - cut]
    winsorized = np.clip(x, kept[0], kept[-1])
    squares = ((winsorized - winsorized.mean()) ** 2).sum()
    return float(kept.mean()), math.sqrt(squares / (len(kept) * (len(kept) - 1)))
