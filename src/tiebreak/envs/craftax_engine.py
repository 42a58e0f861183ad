"""Craftax on the device: `craftax/Craftax-Classic-Symbolic-v1` and its three siblings.

Its worlds cost many steps to make, so that 16 environments share the making of one, as in its
authors' `OptimisticResetVecEnvWrapper`. See docs/decisions/0029.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np

from tiebreak.core.errors import unknown
from tiebreak.core.postponed_imports import postponed_imports
from tiebreak.core.types import Array, EnvSpec, Tree
from tiebreak.envs.jax_state import strong
from tiebreak.envs.jax_vector import VectorEnv

TASKS = (
    "Craftax-Symbolic-v1", "Craftax-Classic-Symbolic-v1", "Craftax-Pixels-v1",
    "Craftax-Classic-Pixels-v1",
)  # fmt: skip
ENVS_PER_RESET = 16
"""Environments that share a new world at a step in which one of their episodes ends."""
ENDLESS = np.iinfo(np.int32).max
"""A time limit that no episode reaches."""


class CraftaxEnv(VectorEnv):
    """N environments; observations are vectors or images of floats in [0, 1], as Craftax's own."""

    raw_keys = True  # a state holds the key by which it is drawn

    def __init__(self, env: Any, num_envs: int):
        self._env, self._params = env, env.default_params
        self._endless = self._params.replace(max_timesteps=ENDLESS)
        spec = EnvSpec.make(
            observation_shape=env.observation_space(self._params).shape,
            num_actions=env.num_actions,
        )
        super().__init__(spec, num_envs, envs_per_reset=ENVS_PER_RESET)

    def _reset_one(self, key: Array) -> tuple[Tree, Array]:
        obs, state = self._env.reset_env(key, self._params)
        return strong(state), obs.astype(jnp.float32)

    def _step_one(self, key: Array, state: Tree, action: Array) -> tuple:
        obs, state, reward, _, _ = self._env.step_env(key, state, action, self._params)
        # Craftax has one end of episodes for death and time: death is what ends an endless one.
        terminated = self._env.is_terminal(state, self._endless)
        truncated = self._env.is_terminal(state, self._params) & ~terminated
        return (
            state, obs.astype(jnp.float32), jnp.asarray(reward, jnp.float32), terminated, truncated
        )  # fmt: skip


def make(name: str, num_envs: int, seed: int) -> CraftaxEnv:
    """Make `num_envs` environments of one of Craftax's tasks; keys are arguments, not `seed`.

    Raises UsageError for an unknown name.
    """
    if name not in TASKS:
        raise unknown("task", f"craftax/{name}", [f"craftax/{task}" for task in TASKS])
    return CraftaxEnv(_load(name), num_envs)


def tasks() -> list[str]:
    """Return Craftax's tasks."""
    return list(TASKS)


@functools.cache
def _load(name: str) -> Any:
    """Make one environment; it holds no state, so training and evaluation share it."""
    # For a demonstration of its noise, it imports what that is drawn with.
    with postponed_imports("matplotlib", "matplotlib.pyplot"):
        from craftax.craftax_env import make_craftax_env_from_name

        if "Pixels" not in name:
            return make_craftax_env_from_name(name, auto_reset=False)
        if "Classic" in name:
            from craftax.craftax_classic import constants, renderer
        else:
            from craftax.craftax import constants, renderer
        with _one_size_of_textures(constants, renderer):
            return make_craftax_env_from_name(name, auto_reset=False)


@contextlib.contextmanager
def _one_size_of_textures(constants: ModuleType, renderer: ModuleType) -> Iterator[None]:
    """Scale the textures of agents' pictures alone inside, and write no file.

    Craftax scales them to three sizes, for a minute, and keeps them in a file in its package.
    """
    size = constants.BLOCK_PIXEL_SIZE_AGENT
    before = renderer.load_all_textures
    renderer.load_all_textures = lambda: {size: constants.load_all_textures_given_size(size)}
    try:
        yield
    finally:
        renderer.load_all_textures = before
