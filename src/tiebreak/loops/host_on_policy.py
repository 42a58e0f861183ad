"""On-policy training driven from Python: any framework, any engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.core.memory import Memory, first_memory, next_memory
from tiebreak.core.prefixes import Arrays, add_prefix, strip_prefix
from tiebreak.core.types import Agent, Tree
from tiebreak.envs.base import HostEnv
from tiebreak.frameworks.runtime import Runtime
from tiebreak.loops.base import Progress, on_policy_draws
from tiebreak.loops.host_base import HostLoop


class HostOnPolicy(HostLoop):
    """Rollout by rollout: act, step the environments, then one iteration of learning.

    With a host engine, a rollout crosses to the device once; behind the bridge it never leaves it.
    """

    def __init__(
        self,
        algorithm: str,
        runtime: Runtime,
        raw_agent: Agent,
        env: HostEnv,
        config: Any,
        seed: int,
    ):
        super().__init__(runtime, raw_agent, env, config, seed)
        self._act = runtime.compile_act(raw_agent)
        self._data = registry.data_module(algorithm)
        self._draws = on_policy_draws(algorithm, env.spec, config)
        begins = self._to_env_side(np.ones(env.num_envs, bool))
        self._remembered = first_memory(config, begins, runtime.asarray)

    def collect(self) -> Tree:
        batch, _ = self._rollout()
        return batch

    def run(self) -> Progress:
        batch, noise = self._rollout()
        self._check_observations(batch.obs)
        self.state, metrics = self.agent.step(self.state, batch, noise)
        self.updates += self.config.updates_per_iteration

        outcome = (batch.reward, batch.terminated, batch.truncated)
        if self._on_device:
            outcome = self.runtime.to_numpy(outcome)
        reward, terminated, truncated = outcome
        if self.ranks.count > 1:  # each has learnt from its part of every minibatch
            metrics = type(metrics)(*self.ranks.mean(metrics))
        return Progress(metrics, *self._episodes.take(reward, terminated | truncated))

    def dump(self) -> Arrays:
        arrays = super().dump()
        for memory in self.runtime.to_numpy(self._of_all_ranks(self._remembered)):
            arrays.update(add_prefix("memory", memory._asdict()))
        return arrays

    def load(self, arrays: Mapping[str, np.ndarray]) -> bool:
        restored = super().load(arrays)
        if restored and self._remembered:  # else new episodes begin
            stored = self.ranks.part(Memory(**strip_prefix("memory", arrays)), axis=0)
            hidden = self.runtime.asarray(stored.hidden)
            self._remembered = (Memory(hidden, self._to_env_side(stored.begins)),)
        return restored

    def _rollout(self) -> tuple[Tree, Tree]:
        """Collect `num_steps` steps; return the batch [T, N, …] and the noise to learn with.

        Of several ranks each draws the noise of all, steps its environments, and gets the batch of
        all.
        """
        noise = self.runtime.draw(self._draws, self._noise_seed, self._iteration)
        before, act_noise = self._remembered, self.ranks.part(noise.act, axis=1)
        steps = [self._step(act_noise, t) for t in range(self.config.num_steps)]
        self.steps += self.config.iteration_steps
        batch = self.ranks.gather(self._stack(steps), axis=1)
        if before:
            batch = self._data.with_memory(batch, *self._of_all_ranks(before))
        return batch, noise.step

    def _of_all_ranks(self, remembered: tuple[Memory, ...]) -> tuple[Memory, ...]:
        """Return a memory of this rank's environments as that of all ranks'."""
        if self.ranks.count == 1:
            return remembered
        own = self.runtime.to_numpy(remembered)
        return tuple(self.ranks.gather(memory, axis=0) for memory in own)

    def _step(self, noise: Tree, t: int) -> Tree:
        act = acted = self._act(self.state, self._obs, noise, t, *self._remembered)
        if not self._on_device:
            act = self.runtime.to_numpy(act)
        outcome = self.env.step(act.action)
        # A memory stays on the device, as the agent has returned it.
        self._remembered = next_memory(self._remembered, acted, outcome)
        transition = self._data.transition(self._obs, act, outcome)
        self._obs = outcome.obs
        return transition
