"""Greedy evaluation of a whole population in one program: the episodes of `loops/evaluate.py`."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from tiebreak import registry
from tiebreak.core.seeding import derive
from tiebreak.core.types import Agent, Array, State
from tiebreak.envs.base import DeviceEnv
from tiebreak.envs.device_keys import chunk_key, env_keys
from tiebreak.envs.policy_observation import make_env_for
from tiebreak.loops.evaluate import CHUNK_STEPS
from tiebreak.loops.fused_population import Population
from tiebreak.loops.population_vmap import many, places, stacked


class PopulationEvaluator:
    """Runs every agent on the environments that its own single run is evaluated on."""

    def __init__(self, algorithm: str, population: Population, task: str, episodes: int):
        loop = population.loop
        env = make_env_for(algorithm, task, episodes)
        shape = registry.data_module(algorithm).act_noise(env.spec, episodes).shape
        keys = [env_keys(derive(seed, "evaluation")) for seed in population.seeds]
        own, _ = places(population.mesh, loop.runtime.native_device)
        self._keys = jax.device_put(stacked(keys), own)
        one = _evaluation(loop.raw_agent, env, shape)
        self._run = loop.runtime.transform(many(one, (0, 0), (0, 0), population.mesh), keep=True)

    def returns(self, state: State) -> list[list[float]]:
        """Undiscounted returns, one for each agent and environment; every episode starts anew."""
        return jax.device_get(self._run(state, self._keys)[1]).tolist()

    def close(self) -> None:
        """There is nothing to release."""


def _evaluation(raw: Agent, env: DeviceEnv, noise_shape: tuple[int, ...]) -> Callable:
    """(state, keys) -> state, returns [N] of one agent's first episodes, zero noise."""

    def evaluate(state: State, keys: tuple[Array, Array]) -> tuple[State, Array]:
        reset_key, steps_key = keys
        noise = jnp.zeros(noise_shape)

        def step(world, row):
            env_state, obs, total, running = world
            env_state, out = env.step(env_state, raw.act(state, obs, noise).action, row)
            total = total + jnp.where(running, out.reward, 0.0)
            running = running & ~(out.terminated | out.truncated)
            return (env_state, out.obs, total, running), None

        def chunk(loop):
            index, world = loop
            rows = env.draw(chunk_key(steps_key, index), CHUNK_STEPS)
            return index + 1, jax.lax.scan(step, world, rows)[0]

        start = *env.reset(reset_key), jnp.zeros(env.num_envs), jnp.ones(env.num_envs, bool)
        loop = jnp.zeros((), jnp.int32), start
        _, (_, _, total, _) = jax.lax.while_loop(lambda x: x[1][3].any(), chunk, loop)
        return state, total

    return evaluate
