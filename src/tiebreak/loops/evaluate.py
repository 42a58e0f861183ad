"""Greedy evaluation on environments of its own: zero noise, any framework, any engine."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.core.seeding import derive
from tiebreak.core.types import Agent, State
from tiebreak.envs.base import DeviceEnv
from tiebreak.envs.policy_observation import make_env_for
from tiebreak.frameworks.runtime import Runtime

CHUNK_STEPS = 128


class Evaluator:
    """Runs policies of one shape; all start in the same states, drawn from the seed.

    Made once for a whole training: environments are built and `act` is compiled a single time.
    """

    def __init__(
        self, algorithm: str, runtime: Runtime, raw_agent: Agent, task: str, episodes: int,
        seed: int, processes: int = 1,
    ):  # fmt: skip
        env: Any = make_env_for(
            algorithm, task, episodes, derive(seed, "evaluation"), min(processes, episodes)
        )
        if isinstance(env, DeviceEnv):
            from tiebreak.envs.bridge import BridgeEnv

            env = BridgeEnv(env, runtime, derive(seed, "evaluation"), CHUNK_STEPS)
        self._env, self._runtime, self._agent = env, runtime, runtime.agent(raw_agent)
        noise_shape = registry.data_module(algorithm).act_noise(env.spec, episodes).shape
        self._noise = runtime.asarray(np.zeros(noise_shape, np.float32))

    def returns(self, state: State) -> list[float]:
        """Undiscounted returns of one episode in each environment, which starts anew."""
        env, runtime = self._env, self._runtime
        obs, returns = env.reset(), np.zeros(env.num_envs)
        on_device, running = not isinstance(obs, np.ndarray), np.ones(env.num_envs, bool)
        while running.any():
            act = self._agent.act(state, obs, self._noise)
            out = env.step(act.action if on_device else runtime.to_numpy(act).action)
            obs = out.obs
            seen = out.reward, out.terminated, out.truncated
            reward, terminated, truncated = runtime.to_numpy(seen) if on_device else seen
            returns += np.where(running, reward, 0.0)
            running &= ~(terminated | truncated)
        return returns.tolist()

    def close(self) -> None:
        """Release the environments."""
        self._env.close()


def evaluate_policy(
    algorithm: str, runtime: Runtime, raw_agent: Agent, state: State, task: str, episodes: int,
    seed: int, processes: int = 1,
) -> list[float]:  # fmt: skip
    """Undiscounted returns of `episodes` greedy episodes, one fresh environment each."""
    evaluator = Evaluator(algorithm, runtime, raw_agent, task, episodes, seed, processes)
    with contextlib.closing(evaluator):
        return evaluator.returns(state)
