"""The arithmetic behind a ratio: t interval over blocks, bootstrap, Holm, verdict, power.

Everything works on d, the difference of logarithms of two cells within one block. exp(mean d) is
a ratio of speeds. Blocks, never iterations, are the unit of replication (PROTOCOL: iterations of
one process share its luck, so pooling them calls identical programs different).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

Verdict = Literal["FASTER", "SLOWER", "SAME", "AMBIGUOUS"]

LEVEL = 0.05
"""How often identical programs may be called different, over the whole family."""
MARGIN = math.log(1.02)
"""Differences below 2 % are not worth a verdict, and inside 2 % is SAME."""
POWER = 0.8
"""Chance of a verdict at the effect that is printed as detectable."""
AIM = POWER + 0.02
"""What is aimed at: bursts on a machine cost up to 1.5 % with few blocks (docs/decisions/0019)."""
QUANTILES = (np.arange(40) + 0.5) / 40
"""At which the unknown ratio of an estimated error to the true one is averaged over."""


class Interval(NamedTuple):
    """Mean of d over the last axis, with what t says about it. NaN where one block says nothing."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    """Two-sided, for a mean of zero."""
    sd: np.ndarray


def t_interval(d: np.ndarray, level: float = LEVEL) -> Interval:
    """Student's 1 - level interval over the last axis (blocks) of d [..., blocks]."""
    from scipy import special

    d = np.asarray(d, np.float64)
    n = d.shape[-1]
    mean = d.mean(-1)
    if n < 2:
        nothing = np.full_like(mean, np.nan)
        return Interval(mean, nothing, nothing, nothing, nothing)
    sd = d.std(-1, ddof=1)
    error = sd / math.sqrt(n)
    half = special.stdtrit(n - 1, 1 - level / 2) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(error > 0, np.abs(mean) / error, np.where(mean == 0, 0.0, np.inf))
    return Interval(mean, mean - half, mean + half, 2 * special.stdtr(n - 1, -t), sd)


class Difference(NamedTuple):
    """Mean of one sample less that of another, with what Welch's t says about it."""

    mean: float
    low: float
    high: float
    p: float
    """Two-sided, for a true difference no larger than the allowance."""
    error: float
    """Standard error of the mean."""
    freedom: float
    """Degrees of it, after Welch and Satterthwaite."""


def welch(
    a: Sequence[float], b: Sequence[float], allowance: float = 0.0, level: float = LEVEL
) -> Difference:
    """mean b - mean a of two independent samples whose variances need not be equal.

    allowance: a systematic error of unknown sign, which no replication within a sample can show;
    it widens the interval at both ends. Raises ValueError below two values a side (Welch 1947).
    """
    from scipy import special

    x, y = (np.asarray(v, np.float64) for v in (a, b))
    if min(len(x), len(y)) < 2:
        raise ValueError(f"two values a side are needed, got {len(x)} and {len(y)}")
    parts = np.array([v.var(ddof=1) / len(v) for v in (x, y)])
    mean, error = float(y.mean() - x.mean()), math.sqrt(parts.sum())
    freedom = len(x) + len(y) - 2.0
    if error > 0:
        freedom = parts.sum() ** 2 / (parts**2 / [len(x) - 1, len(y) - 1]).sum()
    half = float(special.stdtrit(freedom, 1 - level / 2)) * error + allowance
    excess = max(0.0, abs(mean) - allowance)
    t = excess / error if error > 0 else math.inf if excess > 0 else 0.0
    p = 2 * float(special.stdtr(freedom, -t))
    return Difference(mean, mean - half, mean + half, p, error, float(freedom))


def bootstrap(
    a: Sequence[np.ndarray],
    b: Sequence[np.ndarray],
    seed: int,
    level: float = LEVEL,
    resamples: int = 2000,
) -> tuple[float, float]:
    """Percentile interval of mean(ln median a - ln median b): blocks drawn, then samples in them.

    a, b: seconds per unit, one array of samples per block, in the same order of blocks.
    """
    rng = np.random.default_rng(seed)
    d = np.stack([_log_medians(x, rng) - _log_medians(y, rng) for x, y in zip(a, b, strict=True)])
    blocks, pool = d.shape
    drawn = rng.integers(blocks, size=(resamples, blocks))
    means = d[drawn, rng.integers(pool, size=drawn.shape)].mean(-1)
    low, high = np.quantile(means, [level / 2, 1 - level / 2])
    return float(low), float(high)


def _log_medians(samples: np.ndarray, rng: np.random.Generator, pool: int = 200) -> np.ndarray:
    """`pool` logarithms of medians of resampled `samples`."""
    drawn = rng.integers(len(samples), size=(pool, len(samples)))
    return np.log(np.median(samples[drawn], axis=-1))


def holm(p: Sequence[float], family: int) -> list[float]:
    """Holm's adjusted p-values within a declared family of at least len(p) comparisons."""
    order = np.argsort(p, kind="stable")
    adjusted, running = np.empty(len(p)), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (family - rank) * p[index]))
        adjusted[index] = running
    return [float(value) for value in adjusted]


def verdict(mean: float, low: float, high: float, p: float, level: float = LEVEL) -> Verdict:
    """What may be said; starts from AMBIGUOUS, and a NaN anywhere leaves it there.

    p is already adjusted for the family. FASTER means a positive mean of ln other - ln this.
    """
    if low >= -MARGIN and high <= MARGIN:
        return "SAME"
    excludes_zero = low > 0 or high < 0
    if excludes_zero and p < level and abs(mean) > MARGIN:
        return "FASTER" if mean > 0 else "SLOWER"
    return "AMBIGUOUS"


def detectable(sd: float, blocks: int, family: int = 1) -> float:
    """The smallest true effect that gets a verdict in 80 % of runs like this; 0.05 means 5 %.

    For the strictest step of Holm, so the printed figure is not optimistic. NaN for one block.
    """
    if blocks < 2:
        return math.nan
    return visible(sd / math.sqrt(blocks), blocks - 1, family)


def visible(error: float, freedom: float, family: int = 1, allowance: float = 0.0) -> float:
    """`detectable` for a mean with this standard error, degrees of freedom and allowance.

    A promise about the *next* run: the true error is as uncertain as `freedom` makes it, the next
    run will estimate it anew, and it has to clear the margin and the interval at once.
    """
    from scipy import special

    u = np.sqrt(special.chdtri(freedom, 1 - QUANTILES) / freedom)  # estimated / true error
    true = error / u[:, None]
    critical = special.stdtrit(freedom, 1 - LEVEL / family / 2)
    needed = np.maximum(MARGIN, allowance + critical * true * u)
    if error == 0:
        return exp(max(MARGIN, allowance)) - 1
    low, high = 0.0, float(needed.max() + 4 * true.max())
    for _ in range(50):
        effect = (low + high) / 2
        enough = special.ndtr((effect - needed) / true).mean() >= AIM
        low, high = (low, effect) if enough else (effect, high)
    return exp(high) - 1


def exp(value: float) -> float:
    """e to the value; infinite where a float has no room for it."""
    return math.exp(value) if value < 700 else math.inf
