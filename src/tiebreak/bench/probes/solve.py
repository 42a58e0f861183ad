"""Probe that trains until a task is solved: how long does a user wait for a policy?

It is one call, timed from the start of the process (worker/main.py): imports and compiling count.
All rows are judged alike: after every so many environment steps by greedy episodes in Gymnasium's
environments, in the same initial states, until their mean return reaches the task's goal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tiebreak import registry
from tiebreak.bench.probes.base import Probe
from tiebreak.core.errors import UsageError, unknown
from tiebreak.envs.task import Task

EPISODES = 10
"""Greedy episodes of an evaluation."""


class Goal(NamedTuple):
    """When a task counts as solved."""

    mean_return: float
    check_every: int
    """Environment steps between two evaluations."""
    most_steps: int
    """Environment steps after which the training has failed."""


GOALS = {
    "CartPole-v1": Goal(475.0, 20_000, 1_000_000),
    "HalfCheetah-v4": Goal(4000.0, 20_000, 2_000_000),
}
"""Name of a task, in whichever engine -> its goal."""

Act = Callable[[np.ndarray], np.ndarray]
"""Greedy actions for observations [EPISODES, …]."""


def solve(subject: Any) -> Probe:
    """Build the probe of an agent of ours."""
    loop, agent, runtime = subject.loop, subject.agent, subject.runtime
    draw = registry.data_module(subject.cell.algorithm).act_noise(subject.spec, EPISODES)
    greedy = runtime.asarray(np.zeros(draw.shape, np.float32))

    def train(steps: int) -> None:
        end = loop.steps + steps
        while loop.steps < end:
            loop.run()

    def act(obs: np.ndarray) -> np.ndarray:
        return runtime.to_numpy(agent.act(loop.state, runtime.asarray(obs), greedy)).action

    return _probe(
        subject.cell.task,
        subject.seed,
        train,
        lambda: loop.steps,
        act,
        weights=lambda: agent.dump(loop.state),
        learns=True,
    )


def solve_contestant(subject: Any) -> Probe:
    """Build the probe of a contestant, which has to have `act`."""
    contestant, iteration_steps = subject.contestant, subject.config.iteration_steps
    if not hasattr(contestant, "act"):
        raise UsageError("it has no act(obs): the probe solve needs greedy actions")

    def train(steps: int) -> None:  # whole iterations, and as many every time: some compile anew
        contestant.train(-(-steps // iteration_steps) * iteration_steps)

    return _probe(
        subject.cell.task,
        subject.job.seed,
        train,
        lambda: contestant.counts()["env_steps"],
        contestant.act,
        weights=subject.weights,
        learns=subject.has_weights,
    )


def _probe(
    task: str,
    seed: int,
    train: Callable[[int], None],
    steps_so_far: Callable[[], int],
    act: Act,
    **checks: Any,
) -> Probe:
    """Build the probe; `train` takes so many environment steps, or a few more."""
    name = Task.parse(task).name
    if name not in GOALS:
        raise unknown("task of the probe solve", name, GOALS)
    goal, environments = GOALS[name], _make_environments(name)

    def call() -> None:
        while steps_so_far() < goal.most_steps:
            train(goal.check_every)
            if _greedy_return(environments, act, seed) >= goal.mean_return:
                return
        raise RuntimeError(f"not solved after {steps_so_far():,} environment steps")

    return Probe(
        unit="solutions",
        units_per_call=1,
        call=call,
        counted=lambda: {"env_steps": steps_so_far()},
        compiles=True,
        once=True,
        **checks,
    )


def _make_environments(name: str) -> list[Any]:
    gymnasium = registry.load("gymnasium")
    return [gymnasium.make(name) for _ in range(EPISODES)]


def _greedy_return(environments: list[Any], act: Act, seed: int) -> float:
    """Return the mean return of an episode in each environment."""
    starts = [env.reset(seed=seed + i)[0] for i, env in enumerate(environments)]
    obs = np.stack(starts).astype(np.float32)
    returns, running = np.zeros(len(environments)), np.ones(len(environments), bool)
    while running.any():
        actions = np.asarray(act(obs))
        for i in np.flatnonzero(running):
            obs[i], reward, terminated, truncated, _ = environments[i].step(actions[i])
            returns[i] += reward
            running[i] = not (terminated or truncated)
    return float(returns.mean())
