"""Learning results: every seed becomes one number *before* any interval is drawn.

Resampling points of a curve would treat the steps of one run as independent. The interquartile
mean and its bootstrap follow Agarwal et al. 2021 ("Deep RL at the edge of the statistical
precipice").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """An interquartile mean over seeds with its bootstrap interval."""

    value: float
    low: float
    high: float
    seeds: int


def normalised_auc(
    steps: Sequence[float], returns: Sequence[float], worst: float, best: float
) -> float:
    """Mean height of the return-against-steps curve of one seed; 0 at `worst`, 1 at `best`."""
    x, y = np.asarray(steps, np.float64), np.asarray(returns, np.float64)
    if len(x) < 2 or np.any(np.diff(x) <= 0):
        raise ValueError("a curve needs at least two points with rising steps")
    if best <= worst:
        raise ValueError(f"best ({best}) must exceed worst ({worst})")
    height = np.average((y[1:] + y[:-1]) / 2, weights=np.diff(x))
    return float((height - worst) / (best - worst))


def final_return(returns: Sequence[float], share: float = 0.1) -> float:
    """Mean of the last `share` of one seed's curve (at least one point)."""
    y = np.asarray(returns, np.float64)
    return float(y[-max(1, round(share * len(y))) :].mean())


def iqm(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """The mean of the middle half along `axis`."""
    from scipy.stats import trim_mean

    return trim_mean(values, 0.25, axis=axis)


def estimate(values: Sequence[float], seed: int, confidence: float = 0.95) -> Estimate:
    """The interquartile mean of one number per seed, with a percentile bootstrap over seeds.

    Raises ValueError below two seeds: one run has no interval.
    """
    if len(values) < 2:
        raise ValueError(f"an interval over seeds needs at least two of them, got {len(values)}")
    data = np.asarray(values, np.float64)
    tail = (1 - confidence) / 2
    drawn = np.random.default_rng(seed).integers(len(data), size=(5000, len(data)))
    low, high = np.quantile(iqm(data[drawn]), [tail, 1 - tail])
    return Estimate(float(iqm(data)), float(low), float(high), len(data))
