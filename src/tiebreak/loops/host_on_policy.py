"""On-policy training driven from Python: any framework, any engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.core.prefixes import Arrays
from tiebreak.core.seeding import derive
from tiebreak.core.types import Agent, Tree
from tiebreak.envs.base import HostEnv
from tiebreak.frameworks.runtime import Runtime, numpy_stack
from tiebreak.loops.base import Loop, Progress, on_policy_draws
from tiebreak.loops.env_snapshot import dump_world, load_world
from tiebreak.loops.episodes import Episodes


class HostOnPolicy(Loop):
    """Rollout by rollout: act, step the environments, then one iteration of learning.

    With a host engine rows are NumPy and cross to the device once per rollout; behind the bridge
    they are the runtime's own arrays and never leave it.
    """

    kind = "host"

    def __init__(
        self, algorithm: str, runtime: Runtime, raw: Agent, env: HostEnv, config: Any, seed: int
    ):
        self.runtime, self.raw_agent, self.env = runtime, raw, env
        self.spec, self.config = env.spec, config
        self.agent, self._actor = runtime.agent(raw), runtime.compile_act(raw)
        self._transition = registry.data_module(algorithm).transition
        self._draws = on_policy_draws(algorithm, env.spec, config)
        self._noise_seed = derive(seed, "noise")
        self.state = self.agent.init(derive(seed, "weights"))
        self._on_device = not isinstance(obs := env.reset(), np.ndarray)
        self._obs, self._episodes = obs, Episodes(env.num_envs)

    @property
    def obs(self) -> Any:
        return self._obs

    def collect(self) -> Tree:
        batch, _ = self._rollout()
        return batch

    def run(self) -> Progress:
        batch, noise = self._rollout()
        self.state, metrics = self.agent.step(self.state, batch, noise)
        self.updates += self.config.updates_per_iteration
        seen = batch.reward, batch.terminated, batch.truncated
        reward, terminated, truncated = self.runtime.to_numpy(seen) if self._on_device else seen
        return Progress(metrics, *self._episodes.take(reward, terminated | truncated))

    def dump(self) -> Arrays:
        world = dump_world(self.env, self._obs, self._episodes, self.runtime)
        return {**super().dump(), **world}

    def load(self, arrays: Mapping[str, np.ndarray]) -> bool:
        super().load(arrays)
        world = self.env, self._obs, self._episodes, self.runtime
        self._obs, goes_on = load_world(arrays, *world)
        return goes_on

    def _rollout(self) -> tuple[Tree, Tree]:
        batch_index = self.steps // self.config.iteration_steps
        noise = self.runtime.draw(self._draws, self._noise_seed, batch_index)
        rows = [self._one_step(noise.act, t) for t in range(self.config.num_steps)]
        self.steps += self.config.iteration_steps
        stack = self.runtime.stack if self._on_device else numpy_stack
        return stack(rows), noise.step

    def _one_step(self, noise: Tree, t: int) -> Tree:
        act = self._actor(self.state, self._obs, noise, t)
        if not self._on_device:
            act = self.runtime.to_numpy(act)
        outcome = self.env.step(act.action)
        row = self._transition(self._obs, act, outcome)
        self._obs = outcome.obs
        return row
