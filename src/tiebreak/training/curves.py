"""The returns of a run over its steps, as arrays: what its logs say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tiebreak.core.errors import UsageError
from tiebreak.training.run_logs import CONFIG, EVALUATIONS, METRICS, read_lines


class Curve(NamedTuple):
    """Returns over steps."""

    steps: np.ndarray
    """[points] environment steps."""
    returns: np.ndarray
    """Undiscounted returns; axes in Curves."""


class Curves(NamedTuple):
    """Both curves of a run; those of a population have an axis of agents after the points.

    Agents in processes of their own log at different steps: the points are those of all of them,
    and NaN stands where an agent has none.
    """

    greedy: Curve
    """Evaluations (eval.jsonl): [points, episodes]. Without `eval_every` there are none."""
    exploring: Curve
    """Training (metrics.jsonl), about once a second: [points] mean return of the episodes that
    ended in that time; NaN where none did."""


def read_curves(folder: Path) -> Curves:
    """Read the curves of the run in a folder. Raises UsageError for logs that cannot be read."""
    agents = agent_folders(folder)
    if agents == [folder]:
        return Curves(greedy=read_greedy(folder), exploring=_read_exploring(folder))
    return Curves(
        greedy=_of_agents([read_greedy(agent) for agent in agents]),
        exploring=_of_agents([_read_exploring(agent) for agent in agents]),
    )


def agent_folders(folder: Path) -> list[Path]:
    """Return the folders of the agents that were trained in processes; else the run's own."""
    return sorted(path.parent for path in folder.glob(f"agent-*/{CONFIG}")) or [folder]


def read_greedy(folder: Path) -> Curve:
    """Read the greedy returns of a run that is not of agents in processes: [points, …, episodes].

    Raises UsageError for a log that cannot be read.
    """
    return _read(folder / EVALUATIONS, "returns", empty=(0, 0))


def _read_exploring(folder: Path) -> Curve:
    return _read(folder / METRICS, "mean_return", empty=(0,))


def _read(path: Path, name: str, empty: tuple[int, ...]) -> Curve:
    lines = read_lines(path)
    try:
        steps = np.array([line["steps"] for line in lines], np.int64)
        returns = np.array([line[name] for line in lines], np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"cannot read {str(path)!r}: {error!r}") from error
    return Curve(steps, returns if lines else np.zeros(empty))


def _of_agents(curves: Sequence[Curve]) -> Curve:
    """Return the curves of many agents as one, with an axis of agents after the points."""
    steps = np.unique(np.concatenate([curve.steps for curve in curves]))
    more = np.max([curve.returns.shape[1:] for curve in curves], axis=0).astype(int)
    returns = np.full((len(steps), len(curves), *more), np.nan)
    for i, curve in enumerate(curves):
        if len(curve.steps):
            returns[np.searchsorted(steps, curve.steps), i] = curve.returns
    return Curve(steps, returns)
