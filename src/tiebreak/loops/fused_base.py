"""The part that fused loops share: one compiled program for a chunk of iterations.

Only JAX frameworks on device engines. The number of iterations is an argument of the program: any
chunk, the last one included, is the same compilation.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tiebreak.core.jax_devices import to_host
from tiebreak.core.seeding import derive
from tiebreak.core.types import Agent, Array, State, Tree
from tiebreak.envs.base import DeviceEnv
from tiebreak.envs.jax_state import chunk_key, env_keys
from tiebreak.frameworks.jax.ops import recurrence
from tiebreak.frameworks.jax.runtime import draw_tree
from tiebreak.frameworks.runtime import Runtime
from tiebreak.loops.base import Loop, Progress

Keys = tuple[Array, Array]
"""Keys of the agent's draws and of the environments' draws."""


class FusedLoop(Loop):
    """A loop whose environment and learner are one program.

    `_carry` travels between iterations beside the agent's state: a NamedTuple with at least
    `env_state`, `obs`, `episode_return`, `episode_length` and `iteration`.
    """

    kind = "fused"
    shares_environments = False
    """Whether its environments are distributed over devices (env_sharding.py)."""
    axes: Any
    """Axes of a population's carry for vmap: 0 for a field of each agent, None for a shared one."""

    def __init__(self, runtime: Runtime, raw_agent: Agent, env: DeviceEnv, config: Any, chunk: int):
        self.runtime, self.raw_agent, self.env = runtime, raw_agent, env
        self.spec, self.config = env.spec, config
        self.iterations_per_run = chunk
        self.agent = runtime.agent(raw_agent)
        self._reset = jax.jit(env.reset)
        self._carry: Any = None

    @abc.abstractmethod
    def start(self, seed: int) -> tuple[Any, Keys]:
        """Return all that the seed decides beside the weights: first carry, keys of all draws."""

    @property
    def local_state(self) -> State:
        """Return the state as this process's first device has it, where all have the same."""
        if not self.shares_environments:
            return self.state
        return jax.tree.map(lambda leaf: leaf.addressable_data(0), self.state)

    @abc.abstractmethod
    def begin(self, state: State, carry: Any, keys: Any, wrap: Callable = lambda fn: fn) -> None:
        """Continue from a state, a carry and keys.

        `wrap` turns one agent's program into another: of a population, or on many devices.
        """

    @abc.abstractmethod
    def _iteration(self, state: State, carry: Any, keys: Keys) -> tuple[State, Any, Progress]:
        """Collect and learn for one iteration."""

    @property
    def obs(self) -> Array:
        return self._carry.obs

    def _failures(self) -> Array | None:
        counts = self.env.failures(self._carry.env_state)
        return None if counts is None else to_host(counts)

    def _begin_first(self, seed: int, carry: Any, keys: Keys) -> None:
        """Begin with the seed's weights.

        The carry is committed to the device like everything that a run returns: otherwise the
        second call would compile again.
        """
        carry = jax.device_put(carry, self.runtime.native_device)
        self.begin(self.agent.init(derive(seed, "weights")), carry, keys)

    def _first_obs(self, seed: int) -> tuple[Tree, Array, Keys]:
        """Return the first environment states, first observations, and keys of all draws."""
        prng = self.runtime.prng
        noise_key = jax.random.key(derive(seed, "noise"), impl=prng)
        reset_key, steps_key = env_keys(seed, prng)
        env_state, obs = self._reset(reset_key)
        return env_state, obs, (noise_key, steps_key)

    def _draw(self, draws: Tree, iteration: Array, keys: Keys, steps: int) -> tuple[Tree, Tree]:
        """Draw an iteration's noise, and the environments' [steps, N, …]."""
        noise_key, steps_key = keys
        noise = draw_tree(draws, jax.random.fold_in(noise_key, iteration))
        return noise, self.env.draw(chunk_key(steps_key, iteration), steps)

    def _chunk(
        self, state: State, carry: Any, keys: Keys, iterations: Array
    ) -> tuple[State, tuple[Any, Progress]]:
        """Collect and learn for a number of iterations; metrics are means over them."""

        def body(_, loop):
            state, carry, total = loop
            state, carry, progress = self._iteration(state, carry, keys)
            return state, carry, jax.tree.map(jnp.add, total, progress)

        shapes = jax.eval_shape(lambda *a: self._iteration(*a)[2], state, carry, keys)
        total = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        state, carry, total = jax.lax.fori_loop(0, iterations, body, (state, carry, total))
        metrics = jax.tree.map(lambda x: x / iterations, total.metrics)
        return state, (carry, total._replace(metrics=metrics))


def fused_episodes(
    carry: Any, reward: Array, ended: Array
) -> tuple[Any, tuple[Array, Array, Array]]:
    """Sum up the episodes that ended in a rollout.

    Args:
        carry: A NamedTuple with `episode_return` and `episode_length` [N], of episodes under way.
        reward: [T, N]
        ended: [T, N] bool, terminated or truncated.

    Returns:
        The carry after the rollout; number, return sum and length sum of the ended episodes.
    """
    over = ended.astype(jnp.float32)
    going = jnp.concatenate([jnp.ones_like(over[:1]), 1.0 - over[:-1]])

    def running(per_step, before):
        per_step = per_step.at[0].add(before)
        return recurrence(per_step, going.at[0].set(0.0))

    returns = running(reward.astype(jnp.float32), carry.episode_return)
    lengths = running(jnp.ones_like(over), carry.episode_length)
    rest = 1.0 - over[-1]
    carry = carry._replace(episode_return=returns[-1] * rest, episode_length=lengths[-1] * rest)
    return carry, (over.sum(), (returns * over).sum(), (lengths * over).sum())
