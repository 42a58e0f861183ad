"""envpool on the host: MuJoCo, classic control and Atari, stepped by a C++ thread pool.

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
from tiebreak.envs.observation_spaces import Observation, of_box

ATARI = "envpool.atari"
SUPPORTED = ("envpool.mujoco.gym", "envpool.classic_control", ATARI)
"""Packages of envpool whose observations are one Box and whose actions are supported."""

NEVER = 2**31 - 1
"""No time limit inside envpool: at its limit it reports `truncated` also on termination."""


class EnvpoolEnv(HostEnv):
    """N environments on as many threads as the process may use CPUs.

    Observations are float32; those of Atari are bytes, [84, 84, 4], as DQN's: four times the same
    action, the last four frames in gray. Every life begins with up to 30 idle frames and, where the
    game has the button, with FIRE, without which some games stand still. In training, rewards are
    −1, 0 or 1 and a lost life ends an episode; an evaluation plays whole games for their scores.
    """

    def __init__(self, name: str, num_envs: int, seed: int, evaluating: bool = False):
        seeds = [derive(seed, "env", i) for i in range(num_envs)]
        self._task, self._options = name, {"num_envs": num_envs, "seed": seeds}
        self._is_atari, self._evaluating = _is_atari(name), evaluating
        self._limit = registration.make_spec(name).config.max_episode_steps
        self.time_limit = int(self._limit)
        if self._is_atari:  # with its own limit, or the game would go on after it (see _begin)
            self._options |= {"episodic_life": True, "reward_clip": not evaluating}
            self._options["max_episode_steps"] = self.time_limit
        self._pool: Any = self._make()
        self._started = False
        observation = of_box(self._pool.observation_space)
        self.spec, self.num_envs = _env_spec(self._pool, observation), num_envs
        self._dtype, self._convert = self.spec.observation_dtype, observation.convert

    def reset(self) -> np.ndarray:
        """Start every environment again from its own seed: a pool takes seeds only when made."""
        if self._started:
            self._pool = self._make()
        self._started = True
        return self._observations(self._pool.reset()[0])

    def step(self, action: Array) -> EnvStep:
        """Step, and reset what ended; its random numbers continue from where they were."""
        out, reward, stopped, _, info = self._pool.step(np.asarray(action))
        final_obs = self._observations(out)
        terminated = self._terminated(stopped, info)
        truncated = (info["elapsed_step"] >= self._limit) & ~terminated
        obs, waiting = final_obs, np.flatnonzero(stopped | terminated | truncated)
        if waiting.size:
            obs = final_obs.copy()
            ids, first = self._begin(waiting)
            obs[ids] = self._observations(first)
        return EnvStep(obs, reward.astype(np.float32), terminated, truncated, final_obs)

    def _terminated(self, stopped: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        """Return which episodes ended by themselves, of those that envpool has `stopped`.

        In an evaluation of Atari it stops between two lives of one episode.
        """
        if not self._is_atari:
            return stopped
        game_over = info["terminated"].astype(bool)
        return game_over if self._evaluating else game_over | stopped

    def _begin(self, waiting: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Begin an episode in environments; return their indices and first observations.

        A step does so in Atari, and goes on with the next life if one is left; a reset would begin
        a new game.
        """
        if self._is_atari:
            first, *_, info = self._pool.step(np.zeros(len(waiting), np.int64), waiting)
        else:
            first, info = self._pool.reset(waiting)
        return info["env_id"], first

    def _observations(self, rows: np.ndarray) -> np.ndarray:
        """Return observations as agents take them, in memory of their own."""
        rows = rows if self._convert is None else self._convert(rows)
        return rows.astype(self._dtype, order="C")

    def close(self) -> None:
        """Stop the threads, which end with the pool."""
        self._pool = None

    def _make(self) -> Any:
        options = {"max_episode_steps": NEVER, **self._options}
        pool = envpool.make_gymnasium(self._task, **options)
        with warnings.catch_warnings():  # of Gymnasium, about bounds that envpool has in float64
            warnings.simplefilter("ignore")
            _ = pool.observation_space, pool.action_space  # made when first asked for, and kept
        return pool


def make(name: str, num_envs: int, seed: int, evaluating: bool = False) -> EnvpoolEnv:
    """Make `num_envs` environments of one of envpool's ids, e.g. `HalfCheetah-v4`.

    `evaluating`: whole games of Atari, with their own scores.

    Raises UsageError for an unknown id, and for one of envpool's other kinds of task.
    """
    if name in tasks():
        return EnvpoolEnv(name, num_envs, seed, evaluating)
    if name in registration.list_all_envs():
        raise UsageError(
            f"task 'envpool/{name}' is of a kind that is not supported here; supported: envpool's "
            "MuJoCo, classic control and Atari tasks (tiebreak list --tasks envpool)"
        )
    valid = [f"envpool/{task}" for task in tasks()]
    raise unknown("task", f"envpool/{name}", valid, "(tiebreak list --tasks envpool)")


def tasks() -> list[str]:
    """Return envpool's MuJoCo, classic control and Atari ids."""
    specs = registration.registry.specs
    return [name for name in registration.list_all_envs() if specs[name][0] in SUPPORTED]


def _is_atari(name: str) -> bool:
    return registration.registry.specs[name][0] == ATARI


def _env_spec(pool: Any, observation: Observation) -> EnvSpec:
    shape, action = observation.shape, pool.action_space
    if isinstance(action, gymnasium.spaces.Discrete):
        return EnvSpec.make(
            observation_shape=shape, num_actions=int(action.n), pixels=observation.pixels
        )
    # In single precision, as Gymnasium has them; Humanoid's 0.4 differs between the two.
    low, high = (bound.astype(np.float32) for bound in (action.low, action.high))
    return EnvSpec.make(observation_shape=shape, action_low=low, action_high=high)
