"""What an algorithm sees of a task: all of its observations, or what a policy may see of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tiebreak import registry
from tiebreak.core.types import Array, EnvStep, Tree
from tiebreak.envs.base import DeviceEnv, make_env


def make_env_for(
    algorithm: str, task: str, num_envs: int = 1, seed: int = 0, processes: int = 1
) -> Any:
    """`make_env`, without what is privileged where the algorithm would show it to its policy."""
    env = make_env(task, num_envs, seed, processes)
    if env.spec.visible is None or registry.ALGORITHMS[algorithm].privileged:
        return env
    return VisibleEnv(env)


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
        return state, self._cut(obs)

    def draw(self, key: Array, num_steps: int) -> Tree:
        return self._env.draw(key, num_steps)

    def step(self, state: Tree, action: Array, noise: Tree) -> tuple[Tree, EnvStep]:
        state, out = self._env.step(state, action, noise)
        return state, out._replace(obs=self._cut(out.obs), final_obs=self._cut(out.final_obs))

    def failures(self, state: Tree) -> Array | None:
        return self._env.failures(state)

    def _cut(self, obs: Array) -> Array:
        return obs.reshape(self.num_envs, -1)[:, : self.spec.observation_size]
