"""Decide whether two programs learn the same, from one number for each seed.

"Same" has to be shown: two one-sided tests (TOST) against a margin that is stated beforehand, in
standard deviations between seeds. A difference that is not significant shows nothing. Because the
standard deviation is estimated from the same seeds, both tests are of a noncentral t, whose level
is exact for normal values of equal variance (Wellek 2010, "Testing Statistical Hypotheses of
Equivalence and Noninferiority", section 6.1); decision 0068.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from tiebreak.stats.intervals import LEVEL, welch

Verdict = Literal["same", "different", "not shown"]


class Equivalence(NamedTuple):
    """Two samples compared, second minus first."""

    first_mean: float
    second_mean: float
    sd: float
    """Pooled standard deviation between seeds."""
    effect: float
    """Difference of the means in units of `sd`."""
    low: float
    """Low end of the effect's interval, which holds the truth with probability 1 - 2 · level."""
    high: float
    p_same: float
    """p-value of "the effect is at least the margin, one way or the other"."""
    p_different: float
    """Two-sided p-value of "the means are equal", by Welch's test."""


def compare_means(
    first: Sequence[float], second: Sequence[float], margin_sd: float, level: float = LEVEL
) -> Equivalence:
    """Compare the means of two samples with a margin in standard deviations.

    Args:
        first: [seeds] one number for each seed.
        second: [other seeds]
        margin_sd: Effects below it, in standard deviations between seeds, count as the same.
        level: Level of each one-sided test; the interval lies inside the margin exactly where
            `p_same` is below it.

    Raises ValueError for fewer than two values a side. Values without any scatter are the same if
    they are equal.
    """
    difference = welch(first, second, level=level)
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    freedom = len(a) + len(b) - 2
    squares = a.var() * len(a) + b.var() * len(b)
    sd = math.sqrt(squares / freedom)
    means = float(a.mean()), float(b.mean())
    if sd == 0:
        effect = 0.0 if difference.mean == 0 else math.copysign(math.inf, difference.mean)
        p_same, p_different = (0.0, 1.0) if effect == 0 else (1.0, 0.0)
        return Equivalence(*means, 0.0, effect, effect, effect, p_same, p_different)

    effect = difference.mean / sd
    low, high = effect_interval(effect, len(a), len(b), level)
    p_same = _p_same(effect, len(a), len(b), margin_sd)
    return Equivalence(*means, sd, effect, low, high, p_same, difference.p)


def effect_interval(effect: float, first: int, second: int, level: float) -> tuple[float, float]:
    """Return the ends of the 1 - 2 · level interval of an effect, by the noncentral t.

    Args:
        effect: Difference of the means in pooled standard deviations.
        first: Values on the first side.
        second: Values on the second side.
        level: Probability of the truth beyond each end.
    """
    from scipy import special

    unit = _unit(first, second)
    freedom, t = first + second - 2, effect / unit
    low, high = (special.nctdtrinc(freedom, p, t) * unit for p in (1 - level, level))
    return float(low), float(high)


def power_of_same(
    first: int, second: int, margin_sd: float, level: float = LEVEL, effect: float = 0.0
) -> float:
    """Return the probability that `compare_means` shows "same".

    Args:
        first: Values on the first side.
        second: Values on the second side.
        margin_sd: The margin.
        level: Level of the tests.
        effect: True difference of the means in standard deviations. At the margin the result is
            the error rate, `level` or less.
    """
    from scipy import special

    unit, freedom = _unit(first, second), first + second - 2
    critical = special.nctdtrit(freedom, margin_sd / unit, level)
    if critical <= 0:  # too few values to show it, whatever they are
        return 0.0
    shift = effect / unit
    below = special.nctdtr(freedom, shift, critical) - special.nctdtr(freedom, shift, -critical)
    return float(below)


def decide(found: Equivalence, level: float = LEVEL, p_different: float | None = None) -> Verdict:
    """Return the verdict on a comparison; "not shown" unless there is evidence.

    Args:
        found: The comparison.
        level: Level of significance.
        p_different: p-value of a difference, adjusted for the comparisons that are made together;
            None: that of `found`.
    """
    if found.p_same < level:
        return "same"
    p = found.p_different if p_different is None else p_different
    return "different" if p < level else "not shown"


def _p_same(effect: float, first: int, second: int, margin_sd: float) -> float:
    """Return the larger p-value of the two one-sided tests."""
    from scipy import special

    unit = _unit(first, second)
    return float(special.nctdtr(first + second - 2, margin_sd / unit, abs(effect) / unit))


def _unit(first: int, second: int) -> float:
    """Return the standard error of a difference of means, in standard deviations."""
    return math.sqrt(1 / first + 1 / second)
