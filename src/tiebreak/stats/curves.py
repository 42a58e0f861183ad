"""Learning results: reduce every seed to one number, then estimate over seeds.

Resampling points of a curve would treat the steps of one training run as independent. The
interquartile mean and its bootstrap follow Agarwal et al. 2021, "Deep Reinforcement Learning at the
Edge of the Statistical Precipice" (https://arxiv.org/abs/2108.13264).
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
    """Number of seeds."""


def normalised_auc(
    steps: Sequence[float], returns: Sequence[float], worst: float, best: float
) -> float:
    """Compute the normalised area under the learning curve of one seed.

    (mean height - worst) / (best - worst), where the mean height is the trapezoidal integral of
    returns over steps, divided by the range of steps.

    Args:
      steps: [points] environment steps, increasing.
      returns: [points] episode returns.
      worst: return that counts as 0.
      best: return that counts as 1.

    Returns:
      A number that is 0 at `worst` and 1 at `best`.
    """
    x = np.asarray(steps, np.float64)
    y = np.asarray(returns, np.float64)
    if len(x) < 2 or np.any(np.diff(x) <= 0):
        raise ValueError("a curve needs at least two points with increasing steps")
    if best <= worst:
        raise ValueError(f"best ({best}) must exceed worst ({worst})")
    height = np.average((y[1:] + y[:-1]) / 2, weights=np.diff(x))
    return float((height - worst) / (best - worst))


def final_return(returns: Sequence[float], share: float = 0.1) -> float:
    """Compute the mean of the last `share` of one seed's curve (at least one point)."""
    y = np.asarray(returns, np.float64)
    count = max(1, round(share * len(y)))
    return float(y[-count:].mean())


def iqm(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Compute the interquartile mean: the mean of the middle half of the values along `axis`."""
    from scipy.stats import trim_mean

    return trim_mean(values, 0.25, axis=axis)


def estimate(values: Sequence[float], seed: int, confidence: float = 0.95) -> Estimate:
    """Compute the interquartile mean over seeds with a percentile bootstrap interval.

    Args:
      values: [seeds] one number per seed.
      seed: seed of the bootstrap.
      confidence: nominal coverage of the interval.

    Raises ValueError for fewer than two seeds: one training run has no interval.
    """
    if len(values) < 2:
        raise ValueError(f"an interval over seeds needs at least two of them, got {len(values)}")
    data = np.asarray(values, np.float64)
    tail = (1 - confidence) / 2
    resamples = np.random.default_rng(seed).integers(len(data), size=(5000, len(data)))
    low, high = np.quantile(iqm(data[resamples]), [tail, 1 - tail])
    return Estimate(value=float(iqm(data)), low=float(low), high=float(high), seeds=len(data))
