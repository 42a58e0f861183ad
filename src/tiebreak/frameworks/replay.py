"""The replay of host loops: a ring of transitions on the runtime's device, driven from Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.core.errors import UsageError
from tiebreak.core.off_policy import OffPolicyConfig, Transition
from tiebreak.core.prefixes import Arrays
from tiebreak.core.procfs import available_bytes
from tiebreak.core.types import Agent, EnvSpec, Tree
from tiebreak.frameworks.runtime import Runtime

STORED = (*Transition._fields, "count")
"""First fields of every runtime's ring, in order: all that a checkpoint stores of it."""
MOST_ROWS = 2**30
"""Largest ring: positions in it, and counts below twice its size, fit into 32 bits."""
LEFT_OVER = 0.1
"""Share of the available memory that a ring leaves to everything else."""


class Ring:
    """Hold the last `config.replay_size` transitions; `add` changes or replaces the arrays."""

    def __init__(self, runtime: Runtime, spec: EnvSpec, config: OffPolicyConfig):
        """Allocate an empty ring; raise UsageError first if it would not fit into memory."""
        require_memory(runtime, spec, config)
        module = registry.load(registry.RUNTIMES[runtime.name].replay)
        self.arrays: Tree = module.create(spec, config, runtime.device)
        self._runtime = runtime
        self._write = runtime.compile_replay_write(module.add)
        self._sample = partial(module.sample, config=config)
        self._load = module.load

    def add(self, rows: Transition) -> None:
        """Write a round [T, N, …] over the oldest one; NumPy or the runtime's own arrays."""
        self.arrays = self._write(self.arrays, rows)

    def compile_update(self, raw: Agent) -> Callable[[Any, Tree, Tree, int], tuple[Any, Any]]:
        """Compile (state, arrays, draws of an iteration, round) -> (state, metrics).

        The function samples a batch from the ring's arrays and calls `step` on it.
        """
        return self._runtime.compile_update(raw, self._sample)

    def dump(self) -> Arrays:
        """Return the written transitions and their count; views where the runtime allows them."""
        stored = tuple(self.arrays[: len(STORED)])
        return filled(*self._runtime.to_numpy(stored))

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore the result of `dump` into an empty ring of the same size."""
        self.arrays = self._load(self.arrays, arrays)


def bounded(count: int, size: int) -> int:
    """Return a count of rows written to a ring of `size` that means the same and is below 2·size.

    What is read of a count is how many rows are filled, min(count, size), and where the oldest one
    lies, count % size. Counted on, it would overflow after 2³¹ rows, without an error.
    """
    return count if count < 2 * size else size + count % size


def filled(*ring: np.ndarray) -> Arrays:
    """Name the fields of a ring as in STORED and cut off the rows that are still empty."""
    arrays = dict(zip(STORED, ring, strict=True))
    count = arrays.pop("count")
    return {"count": count, **{name: x[: int(count)] for name, x in arrays.items()}}


def required_bytes(spec: EnvSpec, config: OffPolicyConfig) -> int:
    """Return the size of a ring: two observations, action, reward and two flags per transition."""
    observations = 2 * np.dtype(spec.observation_dtype).itemsize * spec.observation_size
    action = 4 if spec.discrete else 4 * spec.action_size
    reward_and_flags = 4 + 2
    transition = observations + action + reward_and_flags
    return config.ring_length * config.num_envs * transition


def require_memory(runtime: Runtime, spec: EnvSpec, config: OffPolicyConfig) -> None:
    """Raise UsageError if a ring would not fit into the memory of the runtime's device."""
    if config.ring_length * config.num_envs > MOST_ROWS:
        raise UsageError(
            f"replay_size is {config.replay_size}; it must be at most {MOST_ROWS}, so that its "
            "positions fit into 32 bits"
        )
    needed = required_bytes(spec, config)
    free = runtime.memory().get("free_bytes", available_bytes())
    if needed > (1.0 - LEFT_OVER) * free:
        fits = int(config.replay_size * (1.0 - LEFT_OVER) * free / needed)
        raise UsageError(
            f"a replay of {config.replay_size} transitions takes {needed / 2**30:.1f} GiB, and "
            f"{free / 2**30:.1f} GiB are free on {runtime.device}; "
            f"at most --set replay_size={fits} fits"
        )
