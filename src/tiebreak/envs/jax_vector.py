"""Vectorised environments whose every episode begins in a new state: gymnax, xminigrid, Craftax.

The engines' own wrappers split keys and reset every environment at every step. Here everything
random is drawn in one batch beforehand. See docs/decisions/0029.
"""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tiebreak.core.types import Array, EnvSpec, EnvStep, Tree
from tiebreak.envs.base import DeviceEnv
from tiebreak.envs.jax_state import raw_keys, where_rows

DRAWN_RESET_BYTES = 256
"""The largest reset state and observation of one environment that are drawn for a whole rollout.

Above it (MinAtar, Pong) moving them through memory costs more than resetting again at every step.
"""


class Draws(NamedTuple):
    """Randomness that steps can consume; leaves are [T, N, …]."""

    step_key: Array
    """Unused by deterministic environments, where XLA drops it."""
    reset: Tree
    """(state, obs) to which an environment that ends is reset; only a key where these are large."""


class VectorEnv(DeviceEnv):
    """N environments of one, which a subclass gives as two functions.

    With `envs_per_reset` G above 1, a step in which an episode ends makes one new state for each G
    environments, and a step in which none ends makes none: for environments whose reset costs many
    steps. Of a group's environments, all that end in the same step begin alike.
    """

    raw_keys = False
    """True if the environment keeps keys in its state: plain numbers, which checkpoints can store,
    instead of JAX's typed keys."""

    def __init__(
        self, spec: EnvSpec, num_envs: int, action_shape: tuple = (), envs_per_reset: int = 1
    ):
        self.spec, self.num_envs, self._action_shape = spec, num_envs, action_shape
        self._group = envs_per_reset
        self._draw_states = envs_per_reset == 1 and self._reset_bytes() <= DRAWN_RESET_BYTES

    @abc.abstractmethod
    def _reset_one(self, key: Array) -> tuple[Tree, Array]:
        """Start one environment; return state and obs [*obs] float32."""

    @abc.abstractmethod
    def _step_one(self, key: Array, state: Tree, action: Array) -> tuple:
        """Step one environment; return state, obs, reward, terminated and truncated."""

    def reset(self, key: Array) -> tuple[Tree, Array]:
        """Start every environment; return state and obs [N, *obs] float32."""
        return jax.vmap(self._reset_one)(self._split(key, self.num_envs))

    def draw(self, key: Array, num_steps: int) -> Draws:
        """Draw step keys and reset states for `num_steps` steps, in one batch."""
        step_key, reset_key = jax.random.split(key)
        shape = (num_steps, self.num_envs)
        reset = self._split(reset_key, shape)
        if self._draw_states:
            reset = jax.vmap(jax.vmap(self._reset_one))(reset)
        return Draws(self._split(step_key, shape), reset)

    def step(self, state: Tree, action: Array, noise: Draws) -> tuple[Tree, EnvStep]:
        """Step, and reset what ended to the drawn state; termination takes precedence."""
        dtype = jnp.int32 if self.spec.discrete else jnp.float32
        action = action.astype(dtype).reshape(self.num_envs, *self._action_shape)
        after, final_obs, reward, terminated, truncated = jax.vmap(self._step_one)(
            noise.step_key, state, action
        )
        ended = terminated | truncated
        if self._group > 1:
            after = jax.tree.map(lambda new, old: new.astype(old.dtype), after, state)
            state, obs = self._begin_by_groups(ended, noise.reset, (after, final_obs))
        else:
            reset = noise.reset if self._draw_states else jax.vmap(self._reset_one)(noise.reset)
            state, obs = jax.tree.map(
                lambda new, old: where_rows(ended, new, old), reset, (after, final_obs)
            )
        return state, EnvStep(obs, reward, terminated, truncated, final_obs)

    def _begin_by_groups(self, ended: Array, keys: Array, stepped: Tree) -> Tree:
        """Begin new episodes where the last ones have ended, one new state for each group.

        The result has the types of `stepped`.
        """
        group = jnp.arange(self.num_envs) // self._group

        def begin() -> Tree:
            new = jax.vmap(self._reset_one)(keys[:: self._group])
            return jax.tree.map(lambda new, old: where_rows(ended, new[group], old), new, stepped)

        return jax.lax.cond(ended.any(), begin, lambda: stepped)

    def _reset_bytes(self) -> int:
        key = jax.eval_shape(lambda: self._split(jax.random.key(0), 1)[0])
        leaves = jax.tree.leaves(jax.eval_shape(self._reset_one, key))
        return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)

    def _split(self, key: Array, shape: Any) -> Array:
        """Return independent keys, of the kind that the environment takes."""
        if self.raw_keys:
            return raw_keys(key, (shape,) if isinstance(shape, int) else shape)
        return jax.random.split(key, shape)
