"""Many agents in one run and one folder: `tiebreak train … --seeds N`.

Agent i is the run with the seed s + i; with `--sweep`, N of them for every combination of settings,
the first combination's first. The folder is a single run's, but for a policy per agent,
and lists with a number for each agent where a single run's log has numbers.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.core.config import digest
from tiebreak.stats.curves import iqm
from tiebreak.training import options, policy_files
from tiebreak.training.checkpoints import Marks
from tiebreak.training.metrics_log import Display, summarize_agents
from tiebreak.training.session import Session, TrainResult
from tiebreak.training.train_loop import Driver


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
    sweep: Mapping[str, Sequence[Any]] | None = None,
    precision: str = "float32",
    device: str = "cpu",
    eval_episodes: int = 16,
    eval_every: int = 0,
    progress: bool = True,
) -> TrainResult:
    """`train` for the seeds `seed`, `seed` + 1, …, all at once; no checkpoints are stored.

    `sweep`: settings (plain numbers) and the values of each; every combination gets these seeds.

    Raises UsageError, too, where they cannot be one program or do not fit into memory.
    """
    options.check_population(framework, task, mode, loop, seed, seeds)
    mode = options.check(algorithm, framework, task, mode, loop or "fused", precision, seed)
    (intervals := options.Intervals(eval_episodes, eval_every, checkpoint_every=0)).check()
    config, sweep = options.resolve_config(algorithm, task, config, overrides), sweep or {}
    variants = options.resolve_variants(algorithm, task, config, sweep)
    name = f"{algorithm}-{framework}-{task}-s{seed}-n{seeds * len(variants)}"
    folder = policy_files.choose_folder(out, name)
    made = registry.load("tiebreak.loops.fused_population").make_population(
        algorithm, framework, task, seeds, mode=mode, config=config, precision=precision,
        device=device, seed=seed, variants=variants,
    )  # fmt: skip
    with contextlib.closing(made.loop):
        about = _describe(algorithm, framework, task, made, intervals, sweep)
        session = PopulationSession(made, folder, about, intervals, progress)
        return session.complete(Marks(), [])


def across_agents(returns: Sequence[Sequence[float]]) -> dict[str, float]:
    """Greedy returns by agent and episode -> IQM, least and largest of the agents' means."""
    each = np.mean(returns, axis=1)
    return {"iqm": float(iqm(each)), "min": float(each.min()), "max": float(each.max())}


def by_settings(
    settings: Sequence[Mapping[str, float]], returns: Sequence[Sequence[float]]
) -> list[tuple[Mapping[str, float], dict[str, float]]]:
    """Each of the settings that agents have of their own, with its agents' numbers; best first."""
    groups = [(own, across_agents([r for s, r in zip(settings, returns, strict=True) if s == own]))
              for i, own in enumerate(settings) if own not in settings[:i]]  # fmt: skip
    return sorted(groups, key=lambda group: -group[1]["iqm"])


class PopulationDriver(Driver):
    """Logs and evaluates every agent."""

    summarize = staticmethod(summarize_agents)

    def __init__(self, evaluator: Any, *rest: Any):
        super().__init__(*rest)
        self._evaluator = evaluator


class PopulationSession(Session):
    """A run of many agents under way."""

    policy = policy_files.AGENT_POLICY.format(0)

    def __init__(self, population: Any, *rest: Any):
        super().__init__(population.loop, *rest)
        self._seeds, self._settings = population.seeds, population.settings
        self._greedy, about = None, self.about
        if episodes := about["eval_episodes"]:
            greedy = registry.load("tiebreak.loops.population_evaluation").Greedy
            self._greedy = greedy(about["algorithm"], population, about["task"], episodes)

    def _driver(self, marks: Marks, display: Display) -> Driver:
        rest = self.loop, self.folder, self.about, self.intervals, marks, display
        return PopulationDriver(self._greedy, *rest)

    def _save(self) -> None:
        arrays = self.loop.agent.dump(self.loop.state)
        for i, (seed, settings) in enumerate(zip(self._seeds, self._settings, strict=True)):
            own = {name: array[i] for name, array in arrays.items()}
            config = dataclasses.replace(self.loop.config, **settings)
            self._save_policy(policy_files.AGENT_POLICY.format(i), own, seed, config)

    def _evaluate(self) -> list[Any]:
        return self._greedy.returns(self.loop.state) if self._greedy else []

    def _summary(self, returns: list[Any]) -> dict[str, Any]:
        own: dict[str, Any] = _returns(across_agents(returns))
        if self._settings[0]:
            groups = by_settings(self._settings, returns)
            own["by_settings"] = [{**settings, **_returns(found)} for settings, found in groups]
        return {**super()._summary(returns), **own}


def _returns(found: Mapping[str, float]) -> dict[str, float]:
    return {f"return_{name}": value for name, value in found.items()}


def _describe(
    algorithm: str, framework: str, task: str, population: Any, intervals: options.Intervals,
    sweep: Mapping[str, Sequence[Any]],
) -> dict[str, Any]:  # fmt: skip
    """A single run's description, and what makes it that of many."""
    loop, seeds = population.loop, sorted(set(population.seeds))
    about = options.describe(algorithm, framework, task, loop, seeds[0], intervals)
    swept = {name: [float(value) for value in values] for name, values in sweep.items()}
    agents = zip(population.seeds, population.settings, strict=True)
    words = [f"--sweep {name}={','.join(map(str, values))}" for name, values in swept.items()]
    return {
        **about,
        "seeds": len(seeds),
        "sweep": swept,
        "agents": [{"seed": seed, **settings} for seed, settings in agents],
        "devices": population.devices,
        "memory": population.memory._asdict(),
        "config_hash": digest({"one": about["config_hash"], "seeds": len(seeds), **swept}),
        "command": " ".join([about["command"], f"--seeds {len(seeds)}", *words]),
    }
