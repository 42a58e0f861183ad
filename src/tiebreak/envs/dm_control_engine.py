"""The DeepMind Control Suite on the host: every task of dm_control.suite, `domain-task`.

dm_control is stepped directly: shimmy's Gymnasium view of it costs a dictionary and a wrapper in
every step, and its observations have to be flattened either way.
"""

from __future__ import annotations

import os
from typing import Any

# Nothing is rendered here, and looking for a display takes seconds where there is none.
os.environ.setdefault("MUJOCO_GL", "disabled")

import numpy as np
from dm_control import suite

from tiebreak.core.errors import unknown
from tiebreak.core.seeding import derive
from tiebreak.core.types import Array, EnvSpec, EnvStep
from tiebreak.envs.base import HostEnv


class DmControlEnv(HostEnv):
    """N like tasks, stepped one after the other; observations are flat float32.

    The suite's tasks end by their time limit, which truncates; the few that end by themselves say
    so with a discount of 0.
    """

    def __init__(self, envs: list[Any], spec: EnvSpec, seeds: list[int]):
        self.spec, self.num_envs, self._envs, self._seeds = spec, len(envs), envs, seeds
        self._shape = (len(envs), *spec.observation_shape)

    def reset(self) -> np.ndarray:
        """Start every environment again from its own seed."""
        for env, seed in zip(self._envs, self._seeds, strict=True):
            env.task.random.seed(seed)
        return np.stack([_flat(env.reset()) for env in self._envs])

    def step(self, action: Array) -> EnvStep:
        """Step, and reset what ended."""
        obs = np.empty(self._shape, np.float32)
        final_obs, reward = np.empty_like(obs), np.empty(self.num_envs, np.float32)
        terminated, truncated = np.zeros((2, self.num_envs), np.bool_)
        rows = np.asarray(action, np.float64)
        for i, env in enumerate(self._envs):
            now = env.step(rows[i])
            obs[i] = final_obs[i] = _flat(now)
            reward[i] = now.reward
            if now.last():
                terminated[i] = now.discount == 0.0
                truncated[i] = not terminated[i]
                obs[i] = _flat(env.reset())
        return EnvStep(obs, reward, terminated, truncated, final_obs)

    def close(self) -> None:
        """Close every environment."""
        for env in self._envs:
            env.close()


def make(name: str, num_envs: int, seed: int) -> DmControlEnv:
    """`num_envs` environments of `domain-task`, e.g. `cartpole-swingup`; UsageError if unknown."""
    if name not in tasks():
        valid = [f"dm_control/{task}" for task in tasks()]
        raise unknown("task", f"dm_control/{name}", valid, "(tiebreak list --tasks)")
    domain, _, task = name.partition("-")
    seeds = [derive(seed, "env", i) for i in range(num_envs)]
    envs = [suite.load(domain, task, task_kwargs={"random": number}) for number in seeds]
    sizes = [int(np.prod(part.shape)) for part in envs[0].observation_spec().values()]
    bounds = envs[0].action_spec()
    spec = EnvSpec.make(
        observation_shape=(sum(sizes),), action_low=bounds.minimum, action_high=bounds.maximum
    )
    return DmControlEnv(envs, spec, seeds)


def tasks() -> list[str]:
    """All tasks of the suite."""
    return [f"{domain}-{task}" for domain, task in suite.ALL_TASKS]


def _flat(now: Any) -> np.ndarray:
    """The parts of an observation, in the suite's order, as one float32 vector."""
    return np.concatenate([np.ravel(x) for x in now.observation.values()]).astype(np.float32)
