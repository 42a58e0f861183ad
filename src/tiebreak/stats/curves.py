"""Learning results: reduce every seed to one number, then estimate over seeds.

Resampling points of a curve would treat the steps of one training run as independent. The
interquartile mean and its bootstrap follow Agarwal et al. 2021, "Deep Reinforcement Learning at the
Edge of the Statistical Precipice" (https://arxiv.org/abs/2108.13264).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Values = Sequence[float] | np.ndarray
"""Numbers in a row."""

RESAMPLES = 5000
"""Bootstrap samples."""


class Estimate(NamedTuple):
    """A statistic over seeds with its bootstrap interval."""

    value: float
    low: float
    high: float
    seeds: int
    """Number of seeds."""


def mean_height(x: Values, y: Values) -> float:
    """Compute the mean height of one seed's curve: the trapezoidal integral over the range of x.

    Args:
      x: [points] positions, increasing.
      y: [points] returns.
    """
    at, height = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if len(at) < 2 or np.any(np.diff(at) <= 0):
        raise ValueError("a curve needs at least two points with increasing positions")
    return float(np.average((height[1:] + height[:-1]) / 2, weights=np.diff(at)))


def final_return(returns: Values, share: float = 0.1) -> float:
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
    means = iqm(_resample(data, np.random.default_rng(seed)))
    low, high = _interval(means, confidence)
    return Estimate(value=float(iqm(data)), low=float(low), high=float(high), seeds=len(data))


def estimate_strata(strata: Sequence[Values], seed: int, confidence: float = 0.95) -> Estimate:
    """Compute the interquartile mean over tasks and seeds, with a stratified bootstrap interval.

    Seeds are resampled within their own task, so that every task keeps its weight.

    Args:
      strata: [tasks][seeds] normalized values; the numbers of seeds may differ.
      seed: seed of the bootstrap.
      confidence: nominal coverage of the interval.

    Raises ValueError for a task with fewer than two seeds.
    """
    if min(len(values) for values in strata) < 2:
        raise ValueError("an interval over seeds needs at least two of them in each task")
    rng = np.random.default_rng(seed)
    data = [np.asarray(values, np.float64) for values in strata]
    means = iqm(np.concatenate([_resample(values, rng) for values in data], axis=-1))
    low, high = _interval(means, confidence)
    pooled = np.concatenate(data)
    return Estimate(value=float(iqm(pooled)), low=float(low), high=float(high), seeds=len(pooled))


def probability_of_improvement(
    ours: Sequence[float], theirs: Sequence[float], seed: int, confidence: float = 0.95
) -> Estimate:
    """Compute how likely one training of ours ends above one of theirs; ties count half.

    It is the Mann-Whitney statistic divided by the number of pairs, with a percentile bootstrap
    interval over the seeds of both (Agarwal et al. 2021, equation 2 for a single task).

    Args:
      ours: [seeds] one number per seed.
      theirs: [other seeds]

    Raises ValueError if either has fewer than two seeds.
    """
    if min(len(ours), len(theirs)) < 2:
        raise ValueError("an interval over seeds needs at least two of them on each side")
    rng = np.random.default_rng(seed)
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    shares = _share_above(_resample(a, rng), _resample(b, rng))
    low, high = _interval(shares, confidence)
    return Estimate(float(_share_above(a, b)), float(low), float(high), len(a) + len(b))


def performance_profile(
    values: Sequence[float], thresholds: np.ndarray, seed: int, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the share of seeds above each threshold, and its bootstrap band.

    Args:
      values: [seeds] one number per seed.
      thresholds: [T]

    Returns:
      The share, its low end and its high end, [T] each.
    """
    data = np.asarray(values, np.float64)
    resamples = _resample(data, np.random.default_rng(seed))
    shares = np.stack([(resamples > threshold).mean(axis=-1) for threshold in thresholds], axis=-1)
    low, high = _interval(shares, confidence)
    return (data[:, None] > thresholds).mean(axis=0), low, high


def _share_above(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the share of pairs in which a is above b, over the last axis of both."""
    above = a[..., :, None] > b[..., None, :]
    equal = a[..., :, None] == b[..., None, :]
    return (above + 0.5 * equal).mean(axis=(-2, -1))


def _resample(data: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return bootstrap samples of `data`: [RESAMPLES, seeds]."""
    return data[rng.integers(len(data), size=(RESAMPLES, len(data)))]


def _interval(values: np.ndarray, confidence: float) -> np.ndarray:
    """Return the two ends of the percentile interval over the first axis."""
    tail = (1 - confidence) / 2
    return np.quantile(values, [tail, 1 - tail], axis=0)
