"""Metrics and evaluations of a run as named numbers, for trackers that draw curves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tiebreak.training.trackers import Tracker


class Scalar(NamedTuple):
    """One number of a line of the log."""

    name: str
    """`train/loss`, `eval/return_mean`: the file of the log, and the name there."""
    value: float
    agent: int | None = None
    """Number of the agent of a population; None for a single agent, or for all together."""

    @property
    def full_name(self) -> str:
        """The name with the agent in it, where agents share one run of a tracker."""
        return self.name if self.agent is None else f"{self.name}/agent_{self.agent:03d}"


class ScalarTracker(Tracker):
    """A tracker that receives metrics and evaluations as scalars, in `write`."""

    def write(self, step: int, scalars: Sequence[Scalar]) -> None:
        """Receive the numbers of one line of the log."""
        raise NotImplementedError

    def log_metrics(self, step: int, metrics: Mapping[str, Any]) -> None:
        self.write(step, scalars_of_metrics(metrics))

    def log_evaluation(self, step: int, evaluation: Mapping[str, Any]) -> None:
        self.write(step, scalars_of_evaluation(evaluation))


def scalars_of_metrics(metrics: Mapping[str, Any]) -> list[Scalar]:
    """Return the numbers of a line of metrics but `steps`; not those that are None or NaN."""
    return [scalar for name in metrics for scalar in _scalars(f"train/{name}", metrics[name])]


def scalars_of_evaluation(evaluation: Mapping[str, Any]) -> list[Scalar]:
    """Return the numbers of an evaluation but `steps`; of a population also each agent's mean."""
    scalars = []
    for name, value in evaluation.items():
        if name != "returns":
            scalars += _scalars(f"eval/{name}", value)
    returns = evaluation["returns"]
    if returns and isinstance(returns[0], list):
        scalars += _scalars("eval/return_mean", np.mean(returns, axis=1).tolist())
    return scalars


def _scalars(name: str, value: Any) -> Iterator[Scalar]:
    if name.endswith("/steps"):  # the horizontal axis
        return
    if isinstance(value, list):
        for agent, item in enumerate(value):
            if _is_finite(item):
                yield Scalar(name, float(item), agent)
    elif _is_finite(value):
        yield Scalar(name, float(value))


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
