"""What the canaries saw of the machine: how far it moved within a block, and between two runs.

A canary is a fixed piece of work, timed before and after each block. It shows that the machine has
changed; no value is ever rescaled by it. A ratio that is paired within mirrored blocks survives
such a change; an absolute value, such as steps per second, does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Seconds = Mapping[str, float]
"""Canary's name -> seconds."""


class Watch(NamedTuple):
    """Visits between two canaries: some groups' part of one block."""

    block: int
    opened: Seconds
    closed: Seconds
    groups: frozenset[tuple[str, str]]
    """Group and fingerprint of the visits between them."""

    @property
    def moved(self) -> float:
        """The largest move of a canary, as a share; 0 if nothing was timed twice."""
        both = [n for n in self.opened if n in self.closed and self.opened[n] > 0]
        return max((abs(self.closed[n] / self.opened[n] - 1) for n in both), default=0.0)


def watches(records: Sequence[Mapping[str, Any]]) -> Iterator[Watch]:
    """Canaries in pairs, with what lies between them in the order of writing.

    Calibration (a negative block) never counts, nor does a block that was cut short.
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
                yield Watch(r["block"], first["values_s"], r["values_s"], frozenset(groups))
            first = None


def drift(records: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], float]:
    """(group, fingerprint) -> the largest move within one of its blocks."""
    largest: dict[tuple[str, str], float] = {}
    for watch in watches(records):
        for key in watch.groups:
            largest[key] = max(largest.get(key, 0.0), watch.moved)
    return largest


class Shift(NamedTuple):
    """How far the machine moved between two runs, as far as canaries can tell; logarithms."""

    largest: float
    """The largest difference of a canary's level between the runs."""
    bound: float
    """The largest of such differences with one standard error on top: what it may have been."""


def shift(a: Sequence[Seconds], b: Sequence[Seconds]) -> Shift | None:
    """From all readings of two runs; None if no canary was read twice in each."""
    found = []
    for name in a[0].keys() & b[0].keys() if a and b else ():
        logs = [[math.log(s[name]) for s in run if s.get(name, 0) > 0] for run in (a, b)]
        if min(map(len, logs)) > 1:
            (one, one_error), (other, other_error) = map(_level, logs)
            found.append((abs(one - other), abs(one - other) + math.hypot(one_error, other_error)))
    return Shift(*(max(values) for values in zip(*found, strict=True))) if found else None


def _level(logs: Sequence[float]) -> tuple[float, float]:
    """Mean of the middle half and its standard error, by the winsorized variance (Yuen 1974).

    A canary lasts milliseconds: a single interruption must not look like another machine.
    """
    x = np.sort(np.asarray(logs))
    cut = len(x) // 4
    kept = x[cut : len(x) - cut]
    squares = ((np.clip(x, kept[0], kept[-1]) - np.clip(x, kept[0], kept[-1]).mean()) ** 2).sum()
    return float(kept.mean()), math.sqrt(squares / (len(kept) * (len(kept) - 1)))
