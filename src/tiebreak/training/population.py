"""Many agents in one run and one folder: `tiebreak train … --seeds N`.

Agent i is the run with the seed s + i. The folder is a single run's, but for a policy per agent,
and lists with a number for each agent where a single run's log has numbers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.core.config import digest
from tiebreak.stats.curves import iqm
from tiebreak.training import checkpoints, request
from tiebreak.training.driver import Driver
from tiebreak.training.resume import Marks
from tiebreak.training.session import Session, TrainResult
from tiebreak.training.trackers import Display, summarize_agents


def train_population(
    algorithm: str,
    framework: str,
    task: str,
    seeds: int,
    *,
    mode: str | None = None,
    loop: str | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    config: Any = None,
    overrides: Mapping[str, Any] | None = None,
    precision: str = "float32",
    device: str = "cpu",
    eval_episodes: int = 16,
    eval_every: int = 0,
    progress: bool = True,
) -> TrainResult:
    """`train` for the seeds `seed`, `seed` + 1, …, all at once; no checkpoints are stored.

    Raises UsageError, too, where they cannot be one program or do not fit into memory.
    """
    request.check_population(framework, task, mode, loop, seed, seeds)
    mode = request.check(algorithm, framework, task, mode, loop or "fused", precision, seed)
    intervals = request.Intervals(eval_episodes, eval_every, checkpoint_every=0)
    intervals.check()
    name = f"{algorithm}-{framework}-{task}-s{seed}-n{seeds}"
    folder = checkpoints.choose_folder(out, name)
    config = request.resolve_config(algorithm, task, config, overrides)
    made = registry.load("tiebreak.loops.fused_population").make_population(
        algorithm, framework, task, seeds, mode=mode, config=config, precision=precision,
        device=device, seed=seed,
    )  # fmt: skip
    with contextlib.closing(made.loop):
        about = _describe(algorithm, framework, task, made, intervals)
        session = PopulationSession(made, folder, about, intervals, progress)
        return session.complete(Marks(), [])


def across_agents(returns: Sequence[Sequence[float]]) -> dict[str, float]:
    """Greedy returns by agent and episode -> IQM, least and largest of the agents' means."""
    each = np.mean(returns, axis=1)
    return {"iqm": float(iqm(each)), "min": float(each.min()), "max": float(each.max())}


class PopulationDriver(Driver):
    """Logs and evaluates every agent."""

    summarize = staticmethod(summarize_agents)

    def __init__(self, evaluator: Any, *rest: Any):
        super().__init__(*rest)
        self._evaluator = evaluator


class PopulationSession(Session):
    """A run of many agents under way."""

    policy = checkpoints.AGENT_POLICY.format(0)

    def __init__(self, population: Any, *rest: Any):
        super().__init__(population.loop, *rest)
        self._seeds, self._greedy, about = population.seeds, None, self.about
        if episodes := about["eval_episodes"]:
            greedy = registry.load("tiebreak.loops.fused_greedy").Greedy
            self._greedy = greedy(about["algorithm"], population, about["task"], episodes)

    def _driver(self, marks: Marks, display: Display) -> Driver:
        rest = self.loop, self.folder, self.about, self.intervals, marks, display
        return PopulationDriver(self._greedy, *rest)

    def _save(self) -> None:
        arrays = self.loop.agent.dump(self.loop.state)
        for i, seed in enumerate(self._seeds):
            own = {name: array[i] for name, array in arrays.items()}
            self._save_policy(checkpoints.AGENT_POLICY.format(i), own, seed)

    def _evaluate(self) -> list[Any]:
        return self._greedy.returns(self.loop.state) if self._greedy else []

    def _summary(self, returns: list[Any]) -> dict[str, Any]:
        own = {f"return_{name}": value for name, value in across_agents(returns).items()}
        return {**super()._summary(returns), **own}


def _describe(
    algorithm: str, framework: str, task: str, population: Any, intervals: request.Intervals
) -> dict[str, Any]:
    """A single run's description, and what makes it that of many."""
    loop, seeds = population.loop, population.seeds
    about = request.describe(algorithm, framework, task, loop, seeds[0], intervals)
    return {
        **about,
        "seeds": len(seeds),
        "devices": population.devices,
        "memory": population.memory._asdict(),
        "config_hash": digest({"one": about["config_hash"], "seeds": len(seeds)}),
        "command": f"{about['command']} --seeds {len(seeds)}",
    }
