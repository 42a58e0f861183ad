"""Arithmetic behind a ratio: t interval over blocks, bootstrap, Holm's correction, verdict, power.

Everything works on d, the difference of the logarithms of two cells' times within one block;
exp(mean d) is a ratio of speeds. Blocks are the unit of replication, never iterations: iterations
of one process share its luck, and pooling them calls identical programs different.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

Verdict = Literal["FASTER", "SLOWER", "SAME", "AMBIGUOUS"]

LEVEL = 0.05
"""Family-wise error rate: how often identical programs may be called different."""
MARGIN = math.log(1.02)
"""Differences below 2 % get no verdict FASTER or SLOWER; inside 2 % is SAME."""
POWER = 0.8
"""Probability of a verdict at the effect that is printed as detectable."""
AIM = POWER + 0.02
"""Power that is aimed at: bursts on a machine cost up to 1.5 % with few blocks
(docs/decisions/0019)."""
QUANTILES = (np.arange(40) + 0.5) / 40
"""Quantiles of the unknown ratio of the estimated error to the true one, averaged over."""

LUCK = 0.012
"""Standard deviation of the logarithm of a process's speed, whatever its rounds: memory layout,
hash seed, placement of threads. Measured by the self-test; the two-level interval allows for it."""
LEAST_ROUNDS = 20
"""Rounds of a block from which on the two-level interval is computed."""
LEAST_COMPARISONS = 8
"""Comparisons of a run from which on its scatter between blocks is known well enough for it."""
LEAST_SCATTER = 0.25
"""The expected variance between blocks is never taken as smaller than this share of what rounds and
luck give."""
EXPECTED_FREEDOM = 6
"""Degrees of freedom that the expected variance between blocks counts for in it."""


class Interval(NamedTuple):
    """Mean of d with Student's interval. Only the mean is a number for a single block."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    """Two-sided p-value for a true mean of zero."""
    sd: np.ndarray
    """Standard deviation between blocks."""


def median(values: np.ndarray) -> np.ndarray:
    """Return the median over the last axis: np.median of finite numbers, but fast for a few.

    Args:
      values: [..., n] numbers.
    """
    count = values.shape[-1]
    half = count // 2
    if count % 2:
        return np.partition(values, half, axis=-1)[..., half]
    ordered = np.partition(values, (half - 1, half), axis=-1)
    return (ordered[..., half - 1] + ordered[..., half]) / 2


def t_interval(d: np.ndarray, level: float = LEVEL) -> Interval:
    """Compute Student's interval for the mean over blocks.

    mean ± t(1 - level/2, n - 1) · sd / sqrt(n)

    Args:
      d: [..., blocks] differences of logarithms.
      level: 1 - nominal coverage.

    Returns:
      Arrays of shape [...]; NaN, but for the mean, if there is only one block.
    """
    from scipy import special

    d = np.asarray(d, np.float64)
    n = d.shape[-1]
    mean = d.mean(-1)
    if n < 2:
        nan = np.full_like(mean, np.nan)
        return Interval(mean, low=nan, high=nan, p=nan, sd=nan)

    sd = d.std(-1, ddof=1)
    error = sd / math.sqrt(n)
    half = special.stdtrit(n - 1, 1 - level / 2) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(error > 0, np.abs(mean) / error, np.where(mean == 0, 0.0, np.inf))
    p = 2 * special.stdtr(n - 1, -t)
    return Interval(mean, low=mean - half, high=mean + half, p=p, sd=sd)


def round_error(differences: np.ndarray) -> np.ndarray:
    """Return the standard error of the median over rounds of one block.

    1.2533 · (1.4826 · MAD) / sqrt(rounds), for a scatter that is normal but for its tails.

    Args:
      differences: [..., rounds] differences of the logarithms of two cells' times.
    """
    center = median(differences)[..., None]
    spread = 1.4826 * median(np.abs(differences - center))
    return 1.2533 * spread / math.sqrt(differences.shape[-1])


def expected_variance(errors: np.ndarray) -> np.ndarray:
    """Return the variance of d between blocks that its rounds and two processes' luck give.

    Args:
      errors: [..., blocks] standard errors of d from its rounds.
    """
    return (np.asarray(errors, np.float64) ** 2).mean(-1) + 2 * LUCK**2


def scatter(excess: np.ndarray, blocks: np.ndarray | int) -> np.ndarray:
    """Return the factor between the variances between blocks that were seen and the expected ones.

    The geometric mean over comparisons, corrected for the mean of ln chi-squared: one comparison
    that scatters wildly must not widen all intervals. At least LEAST_SCATTER. (Smyth 2004.)

    Args:
      excess: [..., comparisons] variance between blocks, divided by the expected one.
      blocks: number of blocks, of all or of each comparison.
    """
    from scipy import special

    half = (np.asarray(blocks) - 1) / 2
    bias = special.digamma(half) - np.log(half)
    logs = np.log(np.maximum(excess, 1e-12)) - bias
    return np.maximum(LEAST_SCATTER, np.exp(logs.mean(-1)))


def two_level_interval(
    d: np.ndarray, expected: np.ndarray | float, level: float = LEVEL
) -> Interval:
    """Compute the interval for the mean over blocks from their scatter and the expected one.

    The variance between blocks is the mean of what was seen, with n - 1 degrees of freedom, and of
    what is expected from the rounds, with EXPECTED_FREEDOM: with few blocks the first is hardly
    known. (Smyth 2004, "Linear models and empirical Bayes methods": the moderated t statistic.)

    Args:
      d: [..., blocks] differences of logarithms, of two blocks or more.
      expected: [...] expected variance between blocks, see `expected_variance`.
      level: 1 - nominal coverage.

    Returns:
      Arrays of shape [...]; sd is the square root of the averaged variance.
    """
    from scipy import special

    d = np.asarray(d, np.float64)
    n = d.shape[-1]
    freedom = two_level_freedom(n)
    mean = d.mean(-1)
    variance = ((n - 1) * d.var(-1, ddof=1) + EXPECTED_FREEDOM * expected) / freedom
    sd = np.sqrt(variance)
    error = sd / math.sqrt(n)
    half = special.stdtrit(freedom, 1 - level / 2) * error
    p = 2 * special.stdtr(freedom, -np.abs(mean) / error)
    return Interval(mean, low=mean - half, high=mean + half, p=p, sd=sd)


def from_error(
    mean: float, error: float, freedom: float, level: float = LEVEL
) -> tuple[float, float, float]:
    """Return low end, high end and p-value of a mean with this standard error.

    Args:
      mean: a mean of logarithms.
      error: its standard error.
      freedom: degrees of freedom of the error.
      level: 1 - nominal coverage.
    """
    from scipy import special

    half = float(special.stdtrit(freedom, 1 - level / 2)) * error
    t = abs(mean) / error if error > 0 else math.inf if mean else 0.0
    return mean - half, mean + half, 2 * float(special.stdtr(freedom, -t))


def two_level_freedom(blocks: int) -> int:
    """Return the degrees of freedom of the two-level interval."""
    return EXPECTED_FREEDOM + blocks - 1


class Difference(NamedTuple):
    """Difference of the means of two samples, with Welch's interval."""

    mean: float
    low: float
    high: float
    p: float
    """Two-sided p-value for a true difference no larger than the allowance."""
    error: float
    """Standard error of the difference."""
    freedom: float
    """Degrees of freedom, after Welch and Satterthwaite."""


def welch(
    a: Sequence[float], b: Sequence[float], allowance: float = 0.0, level: float = LEVEL
) -> Difference:
    """Compute Welch's interval for mean b - mean a of two independent samples.

    difference ± (t(1 - level/2, freedom) · sqrt(var a / n_a + var b / n_b) + allowance)

    Args:
      a: first sample; its variance need not equal that of b.
      b: second sample.
      allowance: bound of a systematic error of unknown sign, which no replication within a
        sample can show; it widens the interval at both ends.
      level: 1 - nominal coverage.

    Raises ValueError for fewer than two values a side. (Welch 1947, "The generalization of
    'Student's' problem when several different population variances are involved".)
    """
    from scipy import special

    x = np.asarray(a, np.float64)
    y = np.asarray(b, np.float64)
    if min(len(x), len(y)) < 2:
        raise ValueError(f"two values a side are needed, got {len(x)} and {len(y)}")

    variances = np.array([v.var(ddof=1) / len(v) for v in (x, y)])
    mean = float(y.mean() - x.mean())
    error = math.sqrt(variances.sum())
    freedom = len(x) + len(y) - 2.0
    if error > 0:
        freedom = variances.sum() ** 2 / (variances**2 / [len(x) - 1, len(y) - 1]).sum()
    half = float(special.stdtrit(freedom, 1 - level / 2)) * error + allowance
    excess = max(0.0, abs(mean) - allowance)
    t = excess / error if error > 0 else math.inf if excess > 0 else 0.0
    p = 2 * float(special.stdtr(freedom, -t))
    return Difference(mean, mean - half, mean + half, p=p, error=error, freedom=float(freedom))


def bootstrap(
    a: Sequence[np.ndarray],
    b: Sequence[np.ndarray],
    seed: int,
    level: float = LEVEL,
    resamples: int = 2000,
) -> tuple[float, float]:
    """Compute a percentile interval of mean(ln median a - ln median b) by a two-level bootstrap.

    Blocks are resampled, then samples within each block.

    Args:
      a: one array of samples (seconds per unit) for each block.
      b: the same for the other cell, in the same order of blocks.
      seed: seed of the resampling.
      level: 1 - nominal coverage.
      resamples: number of resampled means.

    Returns:
      The low and high end, as logarithms.
    """
    rng = np.random.default_rng(seed)
    d = np.stack([_log_medians(x, rng) - _log_medians(y, rng) for x, y in zip(a, b, strict=True)])
    blocks, pool = d.shape
    block_index = rng.integers(blocks, size=(resamples, blocks))
    sample_index = rng.integers(pool, size=block_index.shape)
    means = d[block_index, sample_index].mean(-1)
    low, high = np.quantile(means, [level / 2, 1 - level / 2])
    return float(low), float(high)


def _log_medians(samples: np.ndarray, rng: np.random.Generator, pool: int = 200) -> np.ndarray:
    """Return [pool] logarithms of the medians of resampled samples."""
    index = rng.integers(len(samples), size=(pool, len(samples)))
    return np.log(median(samples[index]))


def holm(p: Sequence[float], family: int) -> list[float]:
    """Compute Holm's adjusted p-values.

    The k-th smallest p (k from 0) becomes the running maximum of min(1, (family - k) · p).

    Args:
      p: p-values of the comparisons that were made.
      family: size of the declared family; at least len(p).

    (Holm 1979, "A simple sequentially rejective multiple test procedure".)
    """
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (family - rank) * p[index]))
        adjusted[index] = largest
    return [float(value) for value in adjusted]


def verdict(
    mean: float,
    low: float,
    high: float,
    p: float,
    level: float = LEVEL,
    bound: float | None = None,
) -> Verdict:
    """Decide what may be said of a comparison; AMBIGUOUS unless there is evidence.

    SAME: the whole interval is inside the margin. FASTER or SLOWER: the interval excludes 0, p is
    significant, and the estimate is outside the margin. NaN anywhere leaves AMBIGUOUS.

    Args:
      mean: mean of ln other - ln this; positive if this cell is faster.
      low: low end of the interval.
      high: high end of the interval.
      p: p-value, already adjusted for the family.
      level: level of significance.
      bound: largest difference that is not excluded, corrected for the family: SAME needs it inside
        the margin. None: of the interval itself.
    """
    largest = max(-low, high) if bound is None else bound
    if largest <= MARGIN:
        return "SAME"
    excludes_zero = low > 0 or high < 0
    if excludes_zero and p < level and abs(mean) > MARGIN:
        return "FASTER" if mean > 0 else "SLOWER"
    return "AMBIGUOUS"


def detectable(sd: float, blocks: int, family: int = 1) -> float:
    """Return the smallest true effect that gets a verdict in 80 % of runs like this one.

    Computed for the strictest step of Holm's procedure, so that it is not optimistic.

    Args:
      sd: standard deviation of d between blocks.
      blocks: number of blocks.
      family: number of comparisons in the family.

    Returns:
      A relative effect: 0.05 is 5 %. NaN for one block.
    """
    if blocks < 2:
        return math.nan
    return detectable_from_error(sd / math.sqrt(blocks), blocks - 1, family)


def detectable_from_error(
    error: float, freedom: float, family: int = 1, allowance: float = 0.0
) -> float:
    """Return the detectable effect for a mean with this standard error.

    It is a promise about the next run: the true error is as uncertain as `freedom` makes it, the
    next run will estimate it again, and the effect has to exceed both the margin and the interval.

    Args:
      error: estimated standard error of the mean.
      freedom: its degrees of freedom.
      family: number of comparisons in the family.
      allowance: systematic error by which each interval is widened; a logarithm.

    Returns:
      A relative effect: 0.05 is 5 %.
    """
    from scipy import special

    if error == 0:
        return exp(max(MARGIN, allowance)) - 1
    estimated_to_true = np.sqrt(special.chdtri(freedom, 1 - QUANTILES) / freedom)
    true = error / estimated_to_true[:, None]
    critical = special.stdtrit(freedom, 1 - LEVEL / family / 2)
    needed = np.maximum(MARGIN, allowance + critical * true * estimated_to_true)

    low, high = 0.0, float(needed.max() + 4 * true.max())
    for _ in range(50):  # bisection
        effect = (low + high) / 2
        power = special.ndtr((effect - needed) / true).mean()
        if power >= AIM:
            high = effect
        else:
            low = effect
    return exp(high) - 1


def exp(value: float) -> float:
    """Return e to the value; infinity where a float overflows."""
    return math.exp(value) if value < 700 else math.inf
