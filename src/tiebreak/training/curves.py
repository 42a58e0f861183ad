"""The curves of a finished run, as arrays: what its logs say of returns over steps."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from tiebreak.training.run_logs import EVALUATIONS, METRICS, read_lines


class Curve(NamedTuple):
    """Returns over steps."""

    steps: np.ndarray
    """[points] environment steps."""
    returns: np.ndarray
    """Undiscounted returns; axes in Curves."""


class Curves(NamedTuple):
    """Both curves of a run; those of a population have an axis of agents after the points."""

    greedy: Curve
    """Evaluations (eval.jsonl): [points, episodes]. Without `eval_every` there are none."""
    exploring: Curve
    """Training (metrics.jsonl), about once a second: [points] mean return of the episodes that
    ended in that time; NaN where none did."""


def read_curves(folder: Path) -> Curves:
    """Read the curves of the run in a folder."""
    return Curves(
        greedy=_read(folder / EVALUATIONS, "returns", empty=(0, 0)),
        exploring=_read(folder / METRICS, "mean_return", empty=(0,)),
    )


def _read(path: Path, name: str, empty: tuple[int, ...]) -> Curve:
    lines = read_lines(path)
    steps = np.array([line["steps"] for line in lines], np.int64)
    returns = np.array([line[name] for line in lines], np.float64)
    return Curve(steps, returns if lines else np.zeros(empty))
