"""On-policy training as one compiled program: rollout, advantages, epochs and minibatches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tiebreak import registry
from tiebreak.core.memory import first_memory, next_memory
from tiebreak.core.prefixes import Arrays, add_prefix, strip_prefix
from tiebreak.core.types import Agent, Array, State, Tree
from tiebreak.envs.base import DeviceEnv
from tiebreak.envs.jax_state import dump_tree, load_tree
from tiebreak.frameworks.runtime import Runtime
from tiebreak.loops.base import Progress, on_policy_draws
from tiebreak.loops.fused_base import FusedLoop, Keys, fused_episodes
from tiebreak.loops.memory_estimate import estimate


class Carry(NamedTuple):
    """Arrays that travel between iterations beside the agent's state."""

    env_state: Tree
    obs: Array
    episode_return: Array
    """[N]: return so far of the episode under way."""
    episode_length: Array
    """[N]"""
    remembered: Tree
    """One core.memory.Memory of N environments, or none, as a tuple."""
    iteration: Array


AXES = Carry(*(0 for _ in Carry._fields))._replace(iteration=None)
"""Axes of a population's carry for vmap: 0 for a field of each agent, None for a shared one."""


class FusedOnPolicy(FusedLoop):
    """Computes the same numbers as HostOnPolicy from the same seed, in one program."""

    axes = AXES

    def __init__(
        self,
        algorithm: str,
        runtime: Runtime,
        raw_agent: Agent,
        env: DeviceEnv,
        config: Any,
        seed: int,
        chunk: int,
    ):
        super().__init__(runtime, raw_agent, env, config, chunk)
        self._data = registry.data_module(algorithm)
        self._draws = on_policy_draws(algorithm, env.spec, config)
        carry, keys = self.start(seed)
        self._begin_first(seed, carry, keys)
        self._collect = runtime.transform(self._collect_once, keep=True)
        self.memory = estimate(self)

    def start(self, seed: int) -> tuple[Carry, Keys]:
        env_state, obs, keys = self._first_obs(seed)
        begins = jnp.ones(self.env.num_envs, bool)
        carry = Carry(
            env_state=env_state,
            obs=obs,
            episode_return=jnp.zeros(self.env.num_envs),
            episode_length=jnp.zeros(self.env.num_envs),
            remembered=first_memory(self.config, begins, jnp.asarray),
            iteration=jnp.zeros((), jnp.int32),
        )
        return carry, keys

    def begin(self, state: State, carry: Any, keys: Any, wrap: Callable = lambda fn: fn) -> None:
        self.state, self._carry, self._keys = state, carry, keys
        self._run = self.runtime.transform(wrap(self._chunk))

    def run(self) -> Progress:
        iterations = self.iterations_per_run
        self.state, (self._carry, progress) = self._run(
            self.state, self._carry, self._keys, np.int32(iterations)
        )
        self.steps += iterations * self.config.iteration_steps
        self.updates += iterations * self.config.updates_per_iteration
        return progress

    def collect(self) -> Tree:
        self.state, (self._carry, batch) = self._collect(self.state, self._carry, self._keys)
        self.steps += self.config.iteration_steps
        return batch

    def dump(self) -> Arrays:
        return {**super().dump(), **add_prefix("carry", dump_tree(self._carry))}

    def load(self, arrays: Mapping[str, np.ndarray]) -> bool:
        self._carry = load_tree(self._carry, strip_prefix("carry", arrays))
        return super().load(arrays)

    def _iteration(self, state: State, carry: Carry, keys: Keys) -> tuple[State, Carry, Progress]:
        carry, batch, noise = self._rollout(state, carry, keys)
        state, metrics = self.raw_agent.step(state, batch, noise)
        ended = batch.terminated | batch.truncated
        carry, episodes = fused_episodes(carry, batch.reward, ended)
        return state, carry, Progress(metrics, *episodes)

    def _collect_once(self, state: State, carry: Carry, keys: Keys) -> tuple[State, Any]:
        carry, batch, _ = self._rollout(state, carry, keys)
        return state, (carry, batch)

    def _rollout(self, state: State, carry: Carry, keys: Keys) -> tuple[Carry, Tree, Tree]:
        """Collect `num_steps` steps; return carry, batch [T, N, …] and the noise to learn with."""
        noise, env_noise = self._draw(self._draws, carry.iteration, keys, self.config.num_steps)

        def step(scanned, noise):
            env_state, obs, memory = scanned
            act_noise, env_noise = noise
            act = self.raw_agent.act(state, obs, act_noise, *memory)
            env_state, outcome = self.env.step(env_state, act.action, env_noise)
            memory = next_memory(memory, act, outcome)
            return (env_state, outcome.obs, memory), self._data.transition(obs, act, outcome)

        start = (carry.env_state, carry.obs, carry.remembered)
        (env_state, obs, memory), batch = jax.lax.scan(step, start, (noise.act, env_noise))
        if carry.remembered:
            batch = self._data.with_memory(batch, *carry.remembered)
        carry = carry._replace(
            env_state=env_state, obs=obs, remembered=memory, iteration=carry.iteration + 1
        )
        return carry, batch, noise.step
