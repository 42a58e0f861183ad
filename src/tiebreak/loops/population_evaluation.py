"""Greedy evaluation of a whole population in one program: the episodes of `loops/evaluate.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tiebreak import registry
from tiebreak.core.jax_devices import put_tree
from tiebreak.core.memory import first_memory, next_memory
from tiebreak.core.seeding import derive
from tiebreak.core.types import Agent, Array, State
from tiebreak.envs.base import DeviceEnv, make_env
from tiebreak.envs.jax_state import chunk_key, env_keys
from tiebreak.envs.policy_observation import hide_privileged
from tiebreak.envs.task import Task
from tiebreak.loops.evaluate import CHUNK_STEPS, episode_limit
from tiebreak.loops.fused_population import Population
from tiebreak.loops.population_vmap import shardings, stack_trees, vmap_agents


class PopulationEvaluator:
    """Evaluates every agent in the environments that its own single run is evaluated in."""

    def __init__(
        self,
        algorithm: str,
        population: Population,
        task: str | Task,
        episodes: int,
        max_steps: int | None = None,
    ):
        loop = population.loop
        env = hide_privileged(make_env(task, episodes), algorithm)
        noise_shape = registry.data_module(algorithm).act_noise(env.spec, episodes).shape
        keys = [env_keys(derive(seed, "evaluation")) for seed in population.seeds]
        per_agent, _ = shardings(population.mesh, loop.runtime.native_device)
        self._keys = put_tree(stack_trees(keys), per_agent)
        self._to_numpy = loop.runtime.to_numpy

        self.limit = episode_limit(0, max_steps)
        """Steps after which episodes are cut."""
        self.cut = 0
        """Episodes of the last evaluation, of all agents, that were cut."""
        program = _make_evaluation(loop.raw_agent, loop.config, env, noise_shape, self.limit)
        of_all = vmap_agents(program, (0, 0), (0, 0), population.mesh)
        self._evaluate = loop.runtime.transform(of_all, keep=True)

    def returns(self, state: State) -> list[list[float]]:
        """Return the undiscounted return of each agent in each environment, from its start."""
        returns, running = self._to_numpy(self._evaluate(state, self._keys)[1])
        self.cut = int(running.sum())
        return returns.tolist()

    def close(self) -> None:
        """Do nothing: device environments hold nothing."""


def _make_evaluation(
    raw_agent: Agent, config: Any, env: DeviceEnv, noise_shape: tuple[int, ...], limit: int
) -> Callable:
    """Return a function of one agent: (state, keys) -> state, (returns [N], still running [N]).

    Episodes are cut after `limit` steps.
    """

    def evaluate(state: State, keys: tuple[Array, Array]) -> tuple[State, tuple[Array, Array]]:
        reset_key, steps_key = keys
        noise = jnp.zeros(noise_shape)

        def step(carry, row):
            env_state, obs, memory, total, running = carry
            env_noise, number = row
            act = raw_agent.act(state, obs, noise, *memory)
            env_state, out = env.step(env_state, act.action, env_noise)
            counts = running & (number < limit)
            total = total + jnp.where(counts, out.reward, 0.0)
            running = running & ~(counts & (out.terminated | out.truncated))
            memory = next_memory(memory, act, out)
            return (env_state, out.obs, memory, total, running), None

        def chunk(loop):
            index, carry = loop
            env_noise = env.draw(chunk_key(steps_key, index), CHUNK_STEPS)
            numbers = index * CHUNK_STEPS + jnp.arange(CHUNK_STEPS)
            return index + 1, jax.lax.scan(step, carry, (env_noise, numbers))[0]

        total, running = jnp.zeros(env.num_envs), jnp.ones(env.num_envs, bool)
        memory = first_memory(config, running, jnp.asarray)
        start = (*env.reset(reset_key), memory, total, running)
        loop = jnp.zeros((), jnp.int32), start
        most = -(-limit // CHUNK_STEPS)
        unended = lambda x: x[1][-1].any() & (x[0] < most)  # noqa: E731
        _, (*_, total, running) = jax.lax.while_loop(unended, chunk, loop)
        return state, (total, running)

    return evaluate
