"""envpool on the host: MuJoCo's and the classic control tasks, stepped by a C++ thread pool.

envpool resets an environment in the step after the one that ended it, and that step's action is
lost. Here those that ended are reset at once, by a partial `reset`, which steps nothing.
"""

from __future__ import annotations

import warnings
from typing import Any

import envpool
import gymnasium
import numpy as np
from envpool import registration

from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.seeding import derive
from tiebreak.core.types import Array, EnvSpec, EnvStep
from tiebreak.envs.base import HostEnv

SUPPORTED = ("envpool.mujoco.gym", "envpool.classic_control")
"""Packages of envpool whose observations are one Box and whose actions are supported."""

NEVER = 2**31 - 1
"""No time limit inside envpool: at its limit it reports `truncated` also on termination."""


class EnvpoolEnv(HostEnv):
    """N environments on as many threads as the process may use CPUs; observations are float32."""

    def __init__(self, name: str, num_envs: int, seed: int):
        seeds = [derive(seed, "env", i) for i in range(num_envs)]
        self._task, self._options = name, {"num_envs": num_envs, "seed": seeds}
        self._limit = registration.make_spec(name).config.max_episode_steps
        self.time_limit = int(self._limit)
        self._pool: Any = self._make()
        self._started = False
        self.spec, self.num_envs = _env_spec(self._pool), num_envs

    def reset(self) -> np.ndarray:
        """Start every environment again from its own seed: a pool takes seeds only when made."""
        if self._started:
            self._pool = self._make()
        self._started = True
        return self._pool.reset()[0].astype(np.float32)

    def step(self, action: Array) -> EnvStep:
        """Step, and reset what ended; its random numbers continue from where they were."""
        out, reward, terminated, _, info = self._pool.step(np.asarray(action))
        final_obs = out.astype(np.float32)
        truncated = (info["elapsed_step"] >= self._limit) & ~terminated
        obs, ended = final_obs, np.flatnonzero(terminated | truncated)
        if ended.size:
            obs = final_obs.copy()
            first, info = self._pool.reset(ended)
            obs[info["env_id"]] = first
        return EnvStep(obs, reward.astype(np.float32), terminated, truncated, final_obs)

    def close(self) -> None:
        """Stop the threads, which end with the pool."""
        self._pool = None

    def _make(self) -> Any:
        pool = envpool.make_gymnasium(self._task, max_episode_steps=NEVER, **self._options)
        with warnings.catch_warnings():  # of Gymnasium, about bounds that envpool has in float64
            warnings.simplefilter("ignore")
            _ = pool.observation_space, pool.action_space  # made when first asked for, and kept
        return pool


def make(name: str, num_envs: int, seed: int) -> EnvpoolEnv:
    """Make `num_envs` environments of one of envpool's ids, e.g. `HalfCheetah-v4`.

    Raises UsageError for an unknown id, and for one of envpool's other kinds of task.
    """
    if name in tasks():
        return EnvpoolEnv(name, num_envs, seed)
    if name in registration.list_all_envs():
        raise UsageError(
            f"task 'envpool/{name}' is of a kind that is not supported here; supported: envpool's "
            "MuJoCo and classic control tasks (tiebreak list --tasks envpool)"
        )
    valid = [f"envpool/{task}" for task in tasks()]
    raise unknown("task", f"envpool/{name}", valid, "(tiebreak list --tasks envpool)")


def tasks() -> list[str]:
    """Return envpool's MuJoCo and classic control ids."""
    specs = registration.registry.specs
    return [name for name in registration.list_all_envs() if specs[name][0] in SUPPORTED]


def _env_spec(pool: Any) -> EnvSpec:
    shape, action = pool.observation_space.shape, pool.action_space
    if isinstance(action, gymnasium.spaces.Discrete):
        return EnvSpec.make(observation_shape=shape, num_actions=int(action.n))
    # In single precision, as Gymnasium has them; Humanoid's 0.4 differs between the two.
    low, high = (bound.astype(np.float32) for bound in (action.low, action.high))
    return EnvSpec.make(observation_shape=shape, action_low=low, action_high=high)
