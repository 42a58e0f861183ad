"""Fuzz JSON values: one or a few wrong values, at any depth, drawn by a stated seed."""

from __future__ import annotations

import copy
import random
import resource
import time
from collections.abc import Callable
from typing import Any

SEED = 20261130

NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 7, -(2**31), 2**31, 2**63, 10**30, 10**400, 0.0, -0.0, 0.5,
    1e-320, 1e-300, 1e17, 1e18, -1e300, 1e308, "", " ", "x", "nan", "1", "torch", "linen", "ppo",
    "a/b", "../..", "\x1b[2J", "\x9b31m", "\u202e", "\x00", "\n", "%s {0} {x}", "<b>&", "· · ·",
    "é中🙂", "y" * 5000, [], {}, [None], [0], [1.0, "x"], ["x", "x"], [[]], {"": None},
    {"x": {"y": [1]}}, [1e18, 1e-18], [[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]],
)  # fmt: skip

SECONDS = 10.0
"""Longest that one input may take."""
MEMORY = 2**30
"""Most bytes that all of it may add to the peak of this process."""


def mutated(value: Any, rng: random.Random) -> Any:
    """Return a copy of a JSON value with one to three wrong values, missing or added fields."""
    changed = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        holder, key = rng.choice(list(_places(changed)))
        action = rng.random()
        if action < 0.75:
            holder[key] = copy.deepcopy(_nasty(holder[key], rng))
        elif action < 0.9:
            del holder[key]
        elif isinstance(holder, dict):
            holder[rng.choice(("x", "\x1b[0m", "", "schema"))] = rng.choice(NASTY)
        else:
            holder.append(copy.deepcopy(rng.choice(holder)))
        if not list(_places(changed)):
            return changed
    return changed


def _nasty(old: Any, rng: random.Random) -> Any:
    """Return a wrong value: half of the time one of the same type, which a type does not refuse."""
    alike = [value for value in NASTY if type(value) is type(old)]
    return rng.choice(alike if alike and rng.random() < 0.5 else NASTY)


def _places(value: Any) -> Any:
    """Yield (holder, key) of every value below `value`; of long lists the first three."""
    keys = list(value) if isinstance(value, dict) else list(range(min(len(value), 3)))
    for key in keys:
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from _places(value[key])


def run(inputs: int, seed: int, try_one: Callable[[random.Random], str]) -> dict[str, int]:
    """Try inputs; return how many ended how. Raises AssertionError for one that ended wrong.

    try_one: makes an input from the generator and returns its outcome: `ok`, `refused`, or the
    text of anything unexpected.
    """
    counts: dict[str, int] = {}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(inputs):
        start = time.process_time()
        try:
            outcome = try_one(random.Random(f"{seed} {number}"))
        except Exception as error:
            raise AssertionError(f"input {number} of seed {seed}: {error!r}") from error
        took = time.process_time() - start
        if outcome not in ("ok", "refused"):
            raise AssertionError(f"input {number} of seed {seed}: {outcome}")
        assert took < SECONDS, f"input {number} of seed {seed} took {took:.1f} s"
        counts[outcome] = counts.get(outcome, 0) + 1
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
    assert grown < MEMORY, f"seed {seed}: the process has grown by {grown / 2**20:.0f} MiB"
    return counts
