"""A run of many agents in one program: `tiebreak train … --seeds N` where that is possible.

Agent i is the run with the seed s + i; with `--sweep`, N of them for every combination of settings,
the first combination's first. The folder is a single run's, with one policy per agent, and with
lists of a number for each agent where a single run's log has numbers.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.core.config import digest
from tiebreak.core.ranks import ALONE, Ranks
from tiebreak.stats.curves import iqm
from tiebreak.training import policy_files
from tiebreak.training.checkpoints import Marks
from tiebreak.training.request import TrainingRequest
from tiebreak.training.result import TrainResult
from tiebreak.training.run_config import describe
from tiebreak.training.session import Follower, Session
from tiebreak.training.summaries import summarize_agents


def run_population(
    request: TrainingRequest, progress: bool = True, ranks: Ranks = ALONE
) -> TrainResult:
    """Train all agents of a resolved request at once; no checkpoints are stored.

    Of several ranks, each calls this; the result of rank 0 is that of all. Raises UsageError, too,
    where the agents cannot be one program or do not fit into memory.
    """
    population = registry.load("tiebreak.loops.fused_population").make_population(
        request.algorithm,
        request.framework,
        request.task,
        request.seeds,
        mode=request.mode,
        config=request.config,
        precision=request.precision,
        device=request.device,
        seed=request.seed,
        variants=request.variants,
        ranks=ranks,
    )
    session = PopulationSession if ranks.rank == 0 else PopulationFollower
    with contextlib.closing(population.loop):
        config = describe_population(request, population)
        return session(request, population, config, progress).run(Marks())


class PopulationSession(Session):
    """One run of many agents: logs, evaluates and stores each of them."""

    summarize = staticmethod(summarize_agents)
    policy_file = policy_files.AGENT_POLICY.format(0)

    def __init__(
        self,
        request: TrainingRequest,
        population: Any,
        config: Mapping[str, Any],
        progress: bool = True,
    ):
        super().__init__(request, population.loop, config, progress)
        self._population = population

    def _make_evaluator(self) -> Any:
        evaluation = registry.load("tiebreak.loops.population_evaluation")
        return evaluation.PopulationEvaluator(
            self.request.algorithm,
            self._population,
            self.request.task,
            self.request.intervals.eval_episodes,
            self.request.intervals.eval_max_steps,
        )

    def _save_policies(self) -> None:
        weights = self.loop.agent.dump(self.loop.state)
        agents = zip(self._population.seeds, self._population.settings, strict=True)
        for i, (seed, settings) in enumerate(agents):
            agent_weights = {name: array[i] for name, array in weights.items()}
            config = dataclasses.replace(self.loop.config, **settings)
            self._save_policy(policy_files.AGENT_POLICY.format(i), agent_weights, seed, config)

    def _final_returns(self) -> list[Any]:
        if not self.request.intervals.eval_episodes:
            return []
        return self._returns_during_training()

    def _summary(self, returns: list[Any]) -> dict[str, Any]:
        summary = {**super()._summary(returns), **prefixed(across_agents(returns))}
        settings = self._population.settings
        if settings[0]:
            groups = by_settings(settings, returns)
            summary["by_settings"] = [{**group, **prefixed(numbers)} for group, numbers in groups]
        return summary


class PopulationFollower(Follower, PopulationSession):
    """A rank other than 0 of many agents: all ranks evaluate their agents, rank 0 records."""

    def _returns_during_training(self) -> list[Any]:
        return Session._returns_during_training(self)

    def _final_returns(self) -> list[Any]:
        return PopulationSession._final_returns(self)

    def _save_policies(self) -> None:
        self.loop.agent.dump(self.loop.state)  # for rank 0


def across_agents(returns: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return IQM, minimum and maximum of the agents' mean returns; `returns`: [agent][episode]."""
    means = np.mean(returns, axis=1)
    return {"iqm": float(iqm(means)), "min": float(means.min()), "max": float(means.max())}


def by_settings(
    settings: Sequence[Mapping[str, Any]], returns: Sequence[Sequence[float]]
) -> list[tuple[Mapping[str, Any], dict[str, float]]]:
    """Return each combination of settings with `across_agents` of its agents, the best first."""
    groups = []
    for i, combination in enumerate(settings):
        if combination in settings[:i]:
            continue
        of_group = [r for s, r in zip(settings, returns, strict=True) if s == combination]
        groups.append((combination, across_agents(of_group)))
    return sorted(groups, key=lambda group: -group[1]["iqm"])


def prefixed(numbers: Mapping[str, float]) -> dict[str, float]:
    """Return statistics by their names in a summary: `return_iqm`, …"""
    return {f"return_{name}": value for name, value in numbers.items()}


def describe_population(request: TrainingRequest, population: Any) -> dict[str, Any]:
    """Return the contents of `config.json`: a single run's, and all that the agents differ in."""
    seeds = sorted(set(population.seeds))
    one = describe(dataclasses.replace(request, seed=seeds[0]), population.loop)
    swept = {name: [float(value) for value in values] for name, values in request.sweep.items()}
    options = [f"--sweep {name}={','.join(map(str, values))}" for name, values in swept.items()]
    agents = zip(population.seeds, population.settings, strict=True)
    return {
        **one,
        "seeds": len(seeds),
        "sweep": swept,
        "agents": [{"seed": seed, **settings} for seed, settings in agents],
        "devices": population.devices,
        "memory": population.memory._asdict(),
        "config_hash": digest({"one": one["config_hash"], "seeds": len(seeds), **swept}),
        "command": " ".join([one["command"], f"--seeds {len(seeds)}", *options]),
    }
