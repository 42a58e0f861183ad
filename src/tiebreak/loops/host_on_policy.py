"""On-policy training driven from Python: any framework, any engine."""

from __future__ import annotations

from typing import Any

from tiebreak import registry
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
        self._transition = registry.data_module(algorithm).transition
        self._draws = on_policy_draws(algorithm, env.spec, config)

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
        return Progress(metrics, *self._episodes.take(reward, terminated | truncated))

    def _rollout(self) -> tuple[Tree, Tree]:
        """Collect `num_steps` steps; return the batch [T, N, …] and the noise to learn with."""
        noise = self.runtime.draw(self._draws, self._noise_seed, self._iteration)
        steps = [self._step(noise.act, t) for t in range(self.config.num_steps)]
        self.steps += self.config.iteration_steps
        return self._stack(steps), noise.step

    def _step(self, noise: Tree, t: int) -> Tree:
        act = self._act(self.state, self._obs, noise, t)
        if not self._on_device:
            act = self.runtime.to_numpy(act)
        outcome = self.env.step(act.action)
        transition = self._transition(self._obs, act, outcome)
        self._obs = outcome.obs
        return transition
