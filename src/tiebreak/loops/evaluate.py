"""Greedy evaluation on fresh environments: zero noise, any framework, any engine."""

from __future__ import annotations

from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.core.seeding import derive
from tiebreak.core.types import Agent, State
from tiebreak.envs.base import DeviceEnv, make_env
from tiebreak.runtimes.base import Runtime

CHUNK_STEPS = 128


def evaluate_policy(
    algorithm: str, runtime: Runtime, raw_agent: Agent, state: State, task: str, episodes: int,
    seed: int,
) -> list[float]:  # fmt: skip
    """Undiscounted returns of `episodes` greedy episodes, one fresh environment each."""
    env: Any = make_env(task, episodes, derive(seed, "evaluation"))
    if isinstance(env, DeviceEnv):
        from tiebreak.envs.bridge import BridgeEnv

        env = BridgeEnv(env, runtime, derive(seed, "evaluation"), CHUNK_STEPS)
    agent = runtime.agent(raw_agent)
    noise_shape = registry.data_module(algorithm).act_noise(env.spec, episodes).shape
    noise = runtime.asarray(np.zeros(noise_shape, np.float32))
    obs, returns = env.reset(), np.zeros(episodes)
    on_device, running = not isinstance(obs, np.ndarray), np.ones(episodes, bool)
    while running.any():
        act = agent.act(state, obs, noise)
        out = env.step(act.action if on_device else runtime.to_numpy(act).action)
        obs = out.obs
        seen = out.reward, out.terminated, out.truncated
        reward, terminated, truncated = runtime.to_numpy(seen) if on_device else seen
        returns += np.where(running, reward, 0.0)
        running &= ~(terminated | truncated)
    if hasattr(env, "close"):
        env.close()
    return returns.tolist()
