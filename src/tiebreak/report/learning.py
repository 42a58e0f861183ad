"""Learning curves of training runs: one line for each setting, its seeds as a band.

Only greedy evaluations (`eval.jsonl`) are compared. The returns while exploring (`metrics.jsonl`)
are read about once a second, which is later in training where a framework is faster.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tiebreak.core.errors import UsageError
from tiebreak.core.seeding import derive
from tiebreak.stats.curves import estimate, final_return, mean_height
from tiebreak.training import run_logs
from tiebreak.training.curves import agent_folders, read_greedy

POINTS = 200
"""Most points of a line."""

AXES = {"steps": "environment steps", "minutes": "minutes of training, compilation included"}
"""Horizontal axis -> its title."""

NAMED = ("algorithm", "framework", "mode", "loop", "task", "precision", "device", "altered")
"""Fields of config.json that tell lines apart, besides the settings."""


class Curve(NamedTuple):
    """Greedy returns of one agent."""

    folder: Path
    about: Mapping[str, Any]
    """Fields that tell lines apart, settings included."""
    seed: int
    steps: np.ndarray
    """[P] environment steps."""
    minutes: np.ndarray
    """[P] minutes of training, evaluations and checkpoints left out."""
    returns: np.ndarray
    """[P] mean return of the evaluation."""


class Line(NamedTuple):
    """The curves of one setting, over its seeds."""

    label: str
    framework: str
    seeds: tuple[int, ...]
    x: np.ndarray
    """[P] position on the axis."""
    value: np.ndarray
    """[P] interquartile mean over seeds; one seed: its own value."""
    low: np.ndarray | None
    """[P] low end of the 95 % bootstrap interval; None for one seed."""
    high: np.ndarray | None
    finals: tuple[float, ...]
    """Return at the end of each seed: the mean of the last tenth of its evaluations."""
    heights: tuple[float, ...]
    """Mean return over the whole training of each seed, by environment steps."""


def read_curves(paths: Sequence[Path]) -> list[Curve]:
    """Return the curves of runs; a folder that is none of a run stands for the runs in it.

    Raises UsageError where nothing was evaluated during training.
    """
    curves: list[Curve] = []
    for path in paths:
        folders = [folder for run in find_runs(path) for folder in agent_folders(run)]
        if not folders:
            raise UsageError(f"there is no training run in {str(path)!r}: it has no config.json")
        found = [curve for folder in folders for curve in _read_run(folder)]
        if not found:
            raise UsageError(
                f"nothing was evaluated while {str(path)!r} was trained: train with --eval-every N"
            )
        curves += found
    return curves


def find_runs(path: Path) -> list[Path]:
    """Return a run's folder, or the folders of the runs in it; [] if there are none."""
    if (path / run_logs.CONFIG).is_file():
        return [path]
    return sorted(config.parent for config in path.glob(f"*/{run_logs.CONFIG}"))


def make_lines(curves: Sequence[Curve], axis: str = "steps") -> list[Line]:
    """Group curves that differ in nothing but the seed, and take means over their seeds.

    Lines are cut where their shortest curve ends, and curves are interpolated between evaluations.
    A line whose curves have no position in common (in minutes) has no points.
    """
    groups: dict[str, list[Curve]] = {}
    for curve in curves:
        key = json.dumps(curve.about, sort_keys=True, default=str)
        groups.setdefault(key, []).append(curve)
    labels = _labels([group[0].about for group in groups.values()])
    return [
        _make_line(group, label, axis) for group, label in zip(groups.values(), labels, strict=True)
    ]


def to_rows(lines: Sequence[Line], axis: str = "steps") -> list[dict[str, Any]]:
    """Return the points of all lines as rows of a table."""
    rows = []
    for line in lines:
        for i, x in enumerate(line.x):
            rows.append(
                {
                    "line": line.label,
                    axis: float(x),
                    "iqm": float(line.value[i]),
                    "low": None if line.low is None else float(line.low[i]),
                    "high": None if line.high is None else float(line.high[i]),
                    "seeds": len(line.seeds),
                }
            )
    return rows


def _read_run(folder: Path) -> list[Curve]:
    """Return the curves of a run's agents; none if it was not evaluated during training."""
    about = run_logs.read_object(folder / run_logs.CONFIG)
    greedy = read_greedy(folder)
    if len(greedy.steps) < 2:
        return []
    try:
        steps = greedy.steps.astype(np.float64)
        returns = greedy.returns.mean(axis=-1)
        named = {name: about.get(name) for name in NAMED} | dict(about["config"])
        agents = _agents(about, np.size(returns[0]))
        minutes = _minutes(run_logs.read_lines(folder / run_logs.METRICS), steps)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UsageError(f"the run in {str(folder)!r} cannot be read: {error!r}") from error
    of_agents = returns.reshape(len(steps), -1).T
    return [
        Curve(folder, named | settings, seed, steps, minutes, agent)
        for (seed, settings), agent in zip(agents, of_agents, strict=False)
    ]


def _agents(about: Mapping[str, Any], count: int) -> list[tuple[int, dict[str, Any]]]:
    """Return the seed of each agent, and the settings in which it differs from others."""
    first = int(about.get("seed") or 0)
    stored = about.get("agents") or [{"seed": first + i} for i in range(count)]
    agents = [dict(agent) for agent in stored]
    return [(int(agent.pop("seed")), agent) for agent in agents]


def _minutes(log: Sequence[Mapping[str, Any]], steps: np.ndarray) -> np.ndarray:
    at = np.array([line["steps"] for line in log], np.float64)
    seconds = np.array([line["seconds"] for line in log], np.float64)
    return np.interp(steps, at, seconds) / 60


def _labels(abouts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a name for each line: what tells it from others, settings only where it needs them."""
    varying = _varying(abouts, [name for name in NAMED if name != "algorithm"])
    shown = ["algorithm", *(varying or ["framework"])]
    names = [" ".join(str(about.get(name)) for name in shown) for about in abouts]
    labels = []
    for about, name in zip(abouts, names, strict=True):
        alike = [other for other, its in zip(abouts, names, strict=True) if its == name]
        settings = _varying(alike, [key for key in about if key not in NAMED])
        labels.append(", ".join([name, *(f"{key} {_short(about[key])}" for key in settings)]))
    return labels


def _varying(abouts: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    return [name for name in names if len({str(about.get(name)) for about in abouts}) > 1]


def _short(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)


def _make_line(curves: Sequence[Curve], label: str, axis: str) -> Line:
    about = curves[0].about
    positions = [getattr(curve, axis) for curve in curves]
    x = _common_positions(positions)
    values = np.stack(
        [np.interp(x, at, curve.returns) for at, curve in zip(positions, curves, strict=True)]
    )
    middle, low, high = _estimate(values, label)
    return Line(
        label=label,
        framework=str(about.get("framework")),
        seeds=tuple(curve.seed for curve in curves),
        x=x,
        value=middle,
        low=low,
        high=high,
        finals=tuple(final_return(curve.returns) for curve in curves),
        heights=tuple(mean_height(curve.steps, curve.returns) for curve in curves),
    )


def _common_positions(positions: Sequence[np.ndarray]) -> np.ndarray:
    """Return where all curves of a line have a value; empty where there is no such range."""
    first, last = max(one[0] for one in positions), min(one[-1] for one in positions)
    if first > last:
        return np.empty(0)
    x = positions[0][(positions[0] >= first) & (positions[0] <= last)]
    return x if 2 <= len(x) <= POINTS else np.linspace(first, last, POINTS)


def _estimate(values: np.ndarray, label: str) -> tuple[np.ndarray, Any, Any]:
    """Return the interquartile mean of [seeds, P] values, and its interval; None for one seed."""
    if len(values) == 1:
        return values[0], None, None
    points = [estimate(column, derive(0, label, i)) for i, column in enumerate(values.T)]
    ends = np.array([(point.value, point.low, point.high) for point in points]).reshape(-1, 3)
    return ends[:, 0], ends[:, 1], ends[:, 2]
