"""Observations as an algorithm sees them: whole, or only the part that a policy may see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.core.types import Array, EnvSpec, EnvStep, Tree
from tiebreak.envs.base import DeviceEnv, HostEnv, make_env
from tiebreak.envs.task import Task


def hide_privileged(env: Any, algorithm: str) -> Any:
    """Return an environment without the privileged part of its observations.

    Algorithms that show it to their critics only see all of it, and get the environment as it is.
    """
    if env.spec.visible is None or registry.ALGORITHMS[algorithm].privileged:
        return env
    return VisibleEnv(env)


def make_spec_for(algorithm: str, task: str | Task) -> EnvSpec:
    """Return the shapes and bounds that an algorithm sees of a task."""
    env = hide_privileged(make_env(task), algorithm)
    if isinstance(env, HostEnv):
        env.close()
    return env.spec


class VisibleEnv(DeviceEnv):
    """N environments whose observations end where their privileged part begins.

    States are those of the whole environment: nothing is computed twice, and XLA drops the rest.
    """

    def __init__(self, env: DeviceEnv):
        size = env.spec.visible_size
        self.spec = replace(env.spec, observation_shape=(size,), visible=None)
        self.num_envs, self._env = env.num_envs, env

    def reset(self, key: Array) -> tuple[Tree, Array]:
        state, obs = self._env.reset(key)
        return state, self._visible(obs)

    def draw(self, key: Array, num_steps: int) -> Tree:
        return self._env.draw(key, num_steps)

    def step(self, state: Tree, action: Array, noise: Tree) -> tuple[Tree, EnvStep]:
        state, out = self._env.step(state, action, noise)
        out = out._replace(obs=self._visible(out.obs), final_obs=self._visible(out.final_obs))
        return state, out

    def failures(self, state: Tree) -> Array | None:
        return self._env.failures(state)

    @property
    def steps_per_s(self) -> float:
        return self._env.steps_per_s

    def render(self, state: Tree, index: int) -> np.ndarray:
        return self._env.render(state, index)

    def _visible(self, obs: Array) -> Array:
        return obs.reshape(self.num_envs, -1)[:, : self.spec.observation_size]
