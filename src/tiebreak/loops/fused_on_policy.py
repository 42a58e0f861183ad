"""On-policy training as one compiled program: rollout, advantages, epochs and minibatches.

Only JAX frameworks on device engines. A call runs a chunk of iterations, whose number is an
argument of the program: any chunk, the last one included, is the same compilation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tiebreak import registry
from tiebreak.core.prefixes import Arrays, add_prefix, strip_prefix
from tiebreak.core.seeding import derive
from tiebreak.core.types import Agent, Array, State, Tree
from tiebreak.envs.base import DeviceEnv
from tiebreak.envs.device_keys import chunk_key, env_keys
from tiebreak.envs.jax_state import dump_tree, load_tree
from tiebreak.frameworks.jax.runtime import Runtime, draw_tree
from tiebreak.loops.base import Loop, Progress, on_policy_draws
from tiebreak.loops.fused_episodes import episodes
from tiebreak.loops.memory_estimate import of_agent


class Carry(NamedTuple):
    """What travels between iterations beside the agent's state."""

    env_state: Tree
    obs: Array
    episode_return: Array
    """[N]: return so far of the episode under way"""
    episode_length: Array
    """[N]"""
    iteration: Array


AXES = Carry(*(0 for _ in Carry._fields))._replace(iteration=None)
"""Of a population's carry: 0 where each agent has its own, None where all of them share one."""


class FusedOnPolicy(Loop):
    """Same numbers as HostOnPolicy from the same seed, in one program."""

    kind, axes = "fused", AXES

    def __init__(
        self,
        algorithm: str,
        runtime: Runtime,
        raw: Agent,
        env: DeviceEnv,
        config: Any,
        seed: int,
        chunk: int,
    ):
        self.runtime, self.raw_agent, self.env = runtime, raw, env
        self.spec, self.config, self.iterations_per_run = env.spec, config, chunk
        self.agent = runtime.agent(raw)
        self._transition = registry.data_module(algorithm).transition
        self._draws = on_policy_draws(algorithm, env.spec, config)
        self._reset = jax.jit(env.reset)
        carry, keys = self.start(seed)
        # Committed to the device like everything that `run` returns: else the second call compiles.
        carry = jax.device_put(carry, runtime.native_device)
        self.begin(self.agent.init(derive(seed, "weights")), carry, keys)
        self._collect = runtime.transform(self._collect_once, keep=True)
        self.memory = of_agent(self)

    def start(self, seed: int) -> tuple[Carry, tuple[Array, Array]]:
        """What the seed decides beside the weights: the first states, and the keys of all draws."""
        noise_key = jax.random.key(derive(seed, "noise"), impl=self.runtime.prng)
        reset_key, steps_key = env_keys(seed, self.runtime.prng)
        env_state, obs = self._reset(reset_key)
        zeros = jnp.zeros(self.env.num_envs)
        carry = Carry(env_state, obs, zeros, jnp.zeros_like(zeros), jnp.zeros((), jnp.int32))
        return carry, (noise_key, steps_key)

    def begin(
        self, state: State, carry: Carry, keys: tuple, over: Callable = lambda program: program
    ) -> None:
        """Go on from here; `over` makes one agent's program that of many (fused_population.py)."""
        self.state, self._carry, self._keys = state, carry, keys
        self._run = self.runtime.transform(over(self._chunk))

    @property
    def obs(self) -> Array:
        return self._carry.obs

    def _failures(self) -> Array | None:
        return self.env.failures(self._carry.env_state)

    def run(self) -> Progress:
        self.state, (self._carry, progress) = self._run(
            self.state, self._carry, self._keys, np.int32(self.iterations_per_run)
        )
        self.steps += self.iterations_per_run * self.config.iteration_steps
        self.updates += self.iterations_per_run * self.config.updates_per_iteration
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

    def _chunk(
        self, state: State, carry: Carry, keys: tuple, iterations: Array
    ) -> tuple[State, tuple[Carry, Progress]]:
        def body(_, loop):
            state, carry, total = loop
            state, carry, progress = self._iteration(state, carry, keys)
            return state, carry, jax.tree.map(jnp.add, total, progress)

        shapes = jax.eval_shape(lambda *a: self._iteration(*a)[2], state, carry, keys)
        total = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        state, carry, total = jax.lax.fori_loop(0, iterations, body, (state, carry, total))
        metrics = jax.tree.map(lambda x: x / iterations, total.metrics)
        return state, (carry, total._replace(metrics=metrics))

    def _iteration(self, state: State, carry: Carry, keys: tuple) -> tuple[State, Carry, Progress]:
        carry, batch, noise = self._rollout(state, carry, keys)
        state, metrics = self.raw_agent.step(state, batch, noise)
        carry, ended = episodes(carry, batch.reward, batch.terminated | batch.truncated)
        return state, carry, Progress(metrics, *ended)

    def _collect_once(self, state: State, carry: Carry, keys: tuple) -> tuple[State, Any]:
        carry, batch, _ = self._rollout(state, carry, keys)
        return state, (carry, batch)

    def _rollout(self, state: State, carry: Carry, keys: tuple) -> tuple[Carry, Tree, Tree]:
        noise_key, steps_key = keys
        noise = draw_tree(self._draws, jax.random.fold_in(noise_key, carry.iteration))
        env_noise = self.env.draw(chunk_key(steps_key, carry.iteration), self.config.num_steps)

        def body(carry, row):
            env_state, obs = carry
            act = self.raw_agent.act(state, obs, row[0])
            env_state, outcome = self.env.step(env_state, act.action, row[1])
            return (env_state, outcome.obs), self._transition(obs, act, outcome)

        start = carry.env_state, carry.obs
        (env_state, obs), batch = jax.lax.scan(body, start, (noise.act, env_noise))
        carry = carry._replace(env_state=env_state, obs=obs, iteration=carry.iteration + 1)
        return carry, batch, noise.step
