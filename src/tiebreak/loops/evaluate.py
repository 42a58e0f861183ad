"""Greedy evaluation on separate environments: zero noise, any framework, any engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from tiebreak import registry
from tiebreak.core.errors import EnvironmentFailed
from tiebreak.core.memory import first_memory, next_memory
from tiebreak.core.seeding import derive
from tiebreak.core.types import Agent, State
from tiebreak.envs.base import DeviceEnv, HostEnv, make_env
from tiebreak.envs.policy_observation import hide_privileged
from tiebreak.envs.task import Task
from tiebreak.frameworks.runtime import Runtime

CHUNK_STEPS = 128
"""Steps for which the randomness of device environments is drawn at once."""


LONGEST_EPISODE = 10_000
"""Steps after which an episode of an evaluation is cut where neither the task nor the user has a
limit: a greedy policy may never reach an end."""


def episode_limit(time_limit: int, max_steps: int | None) -> int:
    """Return the steps after which an episode of an evaluation is cut.

    Args:
        time_limit: The environment's own; 0: none, or one that is unknown.
        max_steps: The user's; None: none.
    """
    limits = [limit for limit in (time_limit, max_steps) if limit]
    return min(limits, default=LONGEST_EPISODE)


def describe_cut(cut: int, episodes: int, limit: int) -> str:
    """Return a line about episodes of an evaluation that were cut after `limit` steps."""
    return (
        f"{cut} of {episodes} evaluation episodes were cut after {limit:,} steps, and their "
        "returns: give the environment a time limit (max_episode_steps=…), or change this one "
        "(--eval-max-steps N)"
    )


class GreedyEpisodes(NamedTuple):
    """Result of an evaluation."""

    returns: list[float]
    """Undiscounted return of each episode."""
    cut: int
    """Episodes that did not end within `limit` steps."""
    limit: int


class Evaluator:
    """Evaluates policies of one shape; every evaluation starts in the same states.

    Made once for a whole training: environments are built and `act` is compiled a single time.
    """

    def __init__(
        self,
        *,
        algorithm: str,
        runtime: Runtime,
        raw_agent: Agent,
        config: Any,
        task: str | Task,
        episodes: int,
        seed: int,
        processes: int = 1,
        max_steps: int | None = None,
        render: bool = False,
    ):
        """Build one environment per episode, on up to `processes` processes, or to be rendered.

        Episodes are cut after `max_steps`, or after the task's own limit if that is shorter.
        """
        env_seed = derive(seed, "evaluation")
        processes = min(processes, episodes)
        env: Any = make_env(task, episodes, env_seed, processes, render=render, evaluating=True)
        env = hide_privileged(env, algorithm)
        if isinstance(env, DeviceEnv):
            from tiebreak.envs.bridge import BridgeEnv

            env = BridgeEnv(env, runtime, env_seed, CHUNK_STEPS)
        self.env: HostEnv = env
        self._runtime, self._config = runtime, config
        self._agent = runtime.agent(raw_agent)
        noise_shape = registry.data_module(algorithm).act_noise(env.spec, episodes).shape
        self._zero_noise = runtime.asarray(np.zeros(noise_shape, np.float32))
        self.limit = episode_limit(env.time_limit, max_steps)
        """Steps after which episodes are cut."""
        self.cut = 0
        """Episodes of the last evaluation that were cut."""

    def returns(self, state: State) -> list[float]:
        """Return the undiscounted return of one episode in each environment, from its start."""
        returns, running = np.zeros(0), np.zeros(0, bool)
        for returns, running in self.play(state):  # noqa: B007, the last ones count
            pass
        self.cut = int(running.sum())
        return returns.tolist()

    def play(self, state: State) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Play one episode in each environment; yield at its start and after each step.

        Yields:
          The returns so far [N], and True for episodes that have not ended [N]: the same two arrays
          every time, which change.
        """
        env, runtime = self.env, self._runtime
        obs = env.reset()
        on_device = not isinstance(obs, np.ndarray)
        returns = np.zeros(env.num_envs)
        running = np.ones(env.num_envs, bool)
        begins = np.ones(env.num_envs, bool)
        begins = runtime.asarray(begins) if on_device else begins
        memory = first_memory(self._config, begins, runtime.asarray)
        yield returns, running
        for step in range(self.limit):
            if not running.any():
                break
            act = self._agent.act(state, obs, self._zero_noise, *memory)
            action = act.action if on_device else runtime.to_numpy(act).action
            out = env.step(action)
            obs, memory = out.obs, next_memory(memory, act, out)

            outcome = (out.reward, out.terminated, out.truncated)
            reward, terminated, truncated = runtime.to_numpy(outcome) if on_device else outcome
            returns += np.where(running, reward, 0.0)
            if not np.isfinite(returns).all():
                episode = int(np.flatnonzero(~np.isfinite(returns))[0])
                raise EnvironmentFailed(
                    f"the environment's reward is {reward[episode]} in step {step + 1} of "
                    f"evaluation episode {episode}: rewards must be finite numbers"
                )
            running &= ~(terminated | truncated)
            yield returns, running

    def close(self) -> None:
        """Release the environments."""
        self.env.close()


def evaluate_policy(
    *,
    algorithm: str,
    runtime: Runtime,
    raw_agent: Agent,
    config: Any,
    state: State,
    task: str | Task,
    episodes: int,
    seed: int,
    processes: int = 1,
    max_steps: int | None = None,
) -> GreedyEpisodes:
    """Run `episodes` greedy episodes, each in an environment of its own."""
    evaluator = Evaluator(
        algorithm=algorithm,
        runtime=runtime,
        raw_agent=raw_agent,
        config=config,
        task=task,
        episodes=episodes,
        seed=seed,
        processes=processes,
        max_steps=max_steps,
    )
    with contextlib.closing(evaluator):
        return GreedyEpisodes(evaluator.returns(state), evaluator.cut, evaluator.limit)
