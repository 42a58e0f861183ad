"""The DeepMind Control Suite on the host: the tasks of dm_control.suite as `domain-task`.

dm_control is stepped directly, not through shimmy: docs/decisions/0021.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.seeding import derive
from tiebreak.core.types import Array, EnvSpec, EnvStep
from tiebreak.envs.base import PICTURE, HostEnv
from tiebreak.envs.mujoco_advice import without_advice

UNBOUNDED = ("lqr",)
"""Domains whose actions are unbounded; dm_control reports ±1e10, the largest number in MuJoCo."""


@contextlib.contextmanager
def _without_display() -> Iterator[None]:
    """Disable rendering while dm_control is imported: it looks for a display, and warns if none."""
    if "MUJOCO_GL" in os.environ:
        yield
        return
    os.environ["MUJOCO_GL"] = "disabled"
    try:
        yield
    finally:
        del os.environ["MUJOCO_GL"]


with _without_display():
    from dm_control import suite


class DmControlEnv(HostEnv):
    """N environments of one task, stepped one after the other.

    Observations are the entries of the suite's dictionary, each flattened, in the order of the
    task's observation_spec(), as one float32 vector. Time limits truncate; a discount of 0
    terminates.
    """

    def __init__(self, envs: list[Any], spec: EnvSpec, seeds: list[int]):
        self.spec, self.num_envs, self._envs, self._seeds = spec, len(envs), envs, seeds
        self._obs_shape = (len(envs), *spec.observation_shape)

    def reset(self) -> np.ndarray:
        """Start every environment again from its own seed."""
        obs = np.empty(self._obs_shape, np.float32)
        for row, env, seed in zip(obs, self._envs, self._seeds, strict=True):
            env.task.random.seed(seed)
            _flatten(env.reset().observation, row)
        return obs

    def step(self, action: Array) -> EnvStep:
        """Step, and reset what ended; its random numbers continue from where they were."""
        obs = np.empty(self._obs_shape, np.float32)
        reward = np.empty(self.num_envs, np.float32)
        terminated, truncated = np.zeros((2, self.num_envs), np.bool_)
        ended = []
        # In double precision, as the simulation keeps its controls: dm_control does not convert.
        for i, row in enumerate(np.asarray(action, np.float64)):
            now = self._envs[i].step(row)
            reward[i] = now.reward
            _flatten(now.observation, obs[i])
            if now.last():
                terminated[i] = now.discount == 0
                ended.append(i)
        final_obs = obs
        if ended:
            final_obs = obs.copy()
            truncated[ended] = ~terminated[ended]
            for i in ended:
                _flatten(self._envs[i].reset().observation, obs[i])
        return EnvStep(obs, reward, terminated, truncated, final_obs)

    @property
    def steps_per_s(self) -> float:
        """The task's own rate."""
        return 1.0 / self._envs[0].control_timestep()

    def render(self, index: int) -> np.ndarray:
        """Return what the first camera of the task sees."""
        return self._envs[index].physics.render(*PICTURE, camera_id=0)

    def close(self) -> None:
        """Close every environment."""
        for env in self._envs:
            env.close()


def make(name: str, num_envs: int, seed: int, first: int = 0, render: bool = False) -> DmControlEnv:
    """Make `num_envs` environments of `domain-task`, e.g. `cartpole-swingup`.

    `first`: index of the first of them among all of a run, whose processes share them. `render`
    needs a MUJOCO_GL that was set before this file was imported.
    Raises UsageError for an unknown name and for actions without bounds.
    """
    domain, _, task = name.partition("-")
    if (domain, task) not in suite.ALL_TASKS:
        valid = [f"dm_control/{task}" for task in tasks()]
        raise unknown("task", f"dm_control/{name}", valid, "(tiebreak list --tasks dm_control)")
    if domain in UNBOUNDED:
        raise UsageError(
            f"task 'dm_control/{name}' has unbounded actions; supported: bounded actions, as all "
            "domains but lqr have them"
        )
    seeds = [derive(seed, "env", first + i) for i in range(num_envs)]
    with without_advice():
        envs = [_load(domain, task, number, render) for number in seeds]
    return DmControlEnv(envs, _env_spec(envs[0]), seeds)


def tasks() -> list[str]:
    """Return all tasks of the suite but those of lqr, whose actions are unbounded."""
    return [f"{domain}-{task}" for domain, task in suite.ALL_TASKS if domain not in UNBOUNDED]


def _load(domain: str, task: str, seed: int, render: bool) -> Any:
    env = suite.load(domain, task, task_kwargs={"random": seed})
    if render:
        return env
    # quadruped-escape shows its new terrain to a rendering context, and makes one if there is none.
    physics = type(env.physics)
    env.physics.__class__ = type(physics.__name__, (physics,), {"contexts": None})
    return env


def _env_spec(env: Any) -> EnvSpec:
    size = sum(math.prod(part.shape) for part in env.observation_spec().values())
    bounds = env.action_spec()
    return EnvSpec.make(
        observation_shape=(size,),
        action_low=bounds.minimum.astype(np.float32),
        action_high=bounds.maximum.astype(np.float32),
    )


def _flatten(observation: Mapping[str, Any], row: np.ndarray) -> None:
    """Write the entries of an observation one after the other into `row`."""
    np.concatenate(
        [np.ravel(entry) for entry in observation.values()], out=row, casting="same_kind"
    )
