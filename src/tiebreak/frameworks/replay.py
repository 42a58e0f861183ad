"""A ring on a runtime's device, driven from Python: what host loops use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.core.errors import UsageError
from tiebreak.core.off_policy import OffPolicyConfig, Transition
from tiebreak.core.prefixes import Arrays
from tiebreak.core.types import Agent, EnvSpec, Tree
from tiebreak.frameworks.runtime import Runtime

STORED = (*Transition._fields, "count")
"""The first fields of every runtime's ring: all of its content."""
LEFT_OVER = 0.1
"""Share of the memory at hand that a ring leaves to everything else."""


class Ring:
    """`config.replay_size` transitions; states are changed in place or replaced by `add`."""

    def __init__(self, runtime: Runtime, spec: EnvSpec, config: OffPolicyConfig):
        """Raises UsageError, before anything is allocated, where it would not fit."""
        require_memory(runtime, spec, config)
        module = registry.load(registry.RUNTIMES[runtime.name].replay)
        self.arrays: Tree = module.create(spec, config, runtime.device)
        self._write = runtime.writer(module.add)
        self._sample, self._fill = partial(module.sample, config=config), module.load
        self._runtime = runtime

    def add(self, rows: Transition) -> None:
        """Write a round [T, N, …], NumPy or the runtime's own, over the oldest one."""
        self.arrays = self._write(self.arrays, rows)

    def learner(self, raw: Agent) -> Callable[[Any, Tree, Tree, int], tuple[Any, Any]]:
        """(state, arrays, draws of an iteration, round) -> state, metrics: sample, then `step`."""
        return self._runtime.learner(raw, self._sample)

    def dump(self) -> Arrays:
        """What has been written; views where the runtime allows them."""
        return filled(*self._runtime.to_numpy(tuple(self.arrays[: len(STORED)])))

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """What `dump` gave, into an empty ring of the same size."""
        self.arrays = self._fill(self.arrays, arrays)


def filled(*ring: np.ndarray) -> Arrays:
    """The fields of a ring, in their order -> those that are stored, without empty rows."""
    arrays = dict(zip(STORED, ring, strict=True))
    count = arrays.pop("count")
    return {"count": count, **{name: x[: int(count)] for name, x in arrays.items()}}


def required_bytes(spec: EnvSpec, config: OffPolicyConfig) -> int:
    """What the arrays of a ring take: observations twice, action, reward and two ends."""
    action = 4 if spec.discrete else 4 * spec.action_size
    each = 2 * 4 * spec.observation_size + action + 4 + 2
    return config.ring_length * config.num_envs * each


def require_memory(runtime: Runtime, spec: EnvSpec, config: OffPolicyConfig) -> None:
    """Raise UsageError where a ring would not fit into the memory where it would be."""
    needed = required_bytes(spec, config)
    free = runtime.memory().get("free_bytes", available_bytes())
    if needed > (1.0 - LEFT_OVER) * free:
        fits = int(config.replay_size * (1.0 - LEFT_OVER) * free / needed)
        raise UsageError(
            f"a replay of {config.replay_size} transitions takes {needed / 2**30:.1f} GiB, and "
            f"{free / 2**30:.1f} GiB are free on {runtime.device}; "
            f"at most --set replay_size={fits} fits"
        )


def available_bytes() -> float:
    """Memory that can be had without swapping; endless where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return np.inf
    kib = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return 1024.0 * kib[0] if kib else np.inf
