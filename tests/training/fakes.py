"""A loop and a runtime that compute nothing: what training does around them is what is tested."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from tiebreak.algorithms.ppo.config import Config
from tiebreak.algorithms.ppo.data import Metrics, initial_weights
from tiebreak.core.ranks import ALONE
from tiebreak.core.types import EnvSpec
from tiebreak.loops.base import Progress

SPEC = EnvSpec.make(observation_shape=(3,), num_actions=2)
CONFIG = Config(total_steps=1000, num_envs=2, num_steps=8)
"""62 iterations of 16 steps: 992 in all."""


class FakeRuntime:
    """Counts how often the device is read."""

    framework, mode, precision, device = "linen", "jit", "float32", "cpu"

    def __init__(self) -> None:
        self.reads = self.compiled = 0

    def to_numpy(self, tree: Any) -> Any:
        self.reads += 1
        return tree

    def compile_count(self) -> int:
        return self.compiled


class FakeLoop:
    """Every run is `iterations_per_run` iterations, each of which ends one episode of return 5."""

    kind, agents, failures, memory, ranks = "fused", 1, None, None, ALONE

    def __init__(self, config: Config = CONFIG, per_run: int = 4):
        self.config, self.spec, self.runtime = config, SPEC, FakeRuntime()
        self.steps = self.updates = self.runs = 0
        self.iterations_per_run, self.state, self.closed = per_run, object(), False
        self.loss, self.exact, self.raw_agent = 0.5, True, None
        self.before_run: Callable[[int], None] = lambda number: None
        self.warmup_steps = 0
        self.agent = SimpleNamespace(
            dump=lambda state: initial_weights(SPEC, self.config, 0), load=lambda weights: weights
        )

    @property
    def is_warmup(self) -> bool:
        return self.steps < self.warmup_steps

    @property
    def local_state(self) -> object:
        return self.state

    def run(self) -> Progress:
        self.runs += 1
        self.before_run(self.runs)
        count = self.iterations_per_run
        self.steps += count * self.config.batch_size
        self.updates += count * self.config.updates_per_iteration
        metrics = Metrics(*(np.float32(self.loss) for _ in Metrics._fields))
        return Progress(metrics, count, 5.0 * count, 7 * count)

    def dump(self) -> dict[str, np.ndarray]:
        return {"counts": np.array([self.steps, self.updates])}

    def load(self, arrays: Any) -> bool:
        self.steps, self.updates = arrays["counts"].tolist()
        return self.exact

    def close(self) -> None:
        self.closed = True
