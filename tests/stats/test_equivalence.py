"""Planted data: programs that are the same, that differ by the margin, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tiebreak.stats.equivalence import (
    compare_means,
    decide,
    effect_interval,
    power_of_same,
)

TRIALS = 1000


def share_of(verdict, draw, seeds=23, shift=0.0, margin=1.0, trials=TRIALS):
    """Return how often two samples get a verdict; `draw(rng, seeds)` has a deviation of 1."""
    rng = np.random.default_rng(0)
    found = [
        compare_means(draw(rng, seeds), draw(rng, seeds) + shift, margin) for _ in range(trials)
    ]
    return np.mean([decide(one) == verdict for one in found])


def normal(rng, seeds):
    return rng.normal(size=seeds)


def skewed(rng, seeds):
    return rng.exponential(size=seeds)


def two_kinds(rng, seeds):
    """One seed in four fails."""
    return np.where(rng.random(seeds) < 0.25, 0.0, 1.0) / math.sqrt(0.25 * 0.75)


@pytest.mark.parametrize(("seeds", "margin"), [(23, 1.0), (6, 2.0)])
def test_equal_programs_are_shown_to_be_the_same_as_often_as_stated(seeds, margin):
    stated = power_of_same(seeds, seeds, margin)
    assert stated > 0.88
    assert share_of("same", normal, seeds, margin=margin) == pytest.approx(stated, abs=0.02)
    assert share_of("different", normal, seeds, margin=margin) <= 0.05 + 0.015


@pytest.mark.parametrize(("seeds", "margin"), [(23, 1.0), (6, 2.0)])
@pytest.mark.parametrize("sign", [1, -1])
def test_programs_that_differ_by_the_margin_are_called_the_same_in_five_percent(
    seeds, margin, sign
):
    share = share_of("same", normal, seeds, shift=sign * margin, margin=margin)
    assert share == pytest.approx(0.05, abs=0.015)
    assert power_of_same(seeds, seeds, margin, effect=margin) == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize("draw", [skewed, two_kinds])
def test_the_error_rate_holds_for_returns_that_are_not_normal(draw):
    assert share_of("same", draw, shift=1.0) <= 0.05 + 0.03
    assert share_of("same", draw) > 0.85


def test_a_large_difference_is_seen():
    assert share_of("different", normal, shift=1.0) > 0.85
    assert share_of("different", normal, shift=-2.0, trials=200) == 1.0


def test_the_interval_lies_inside_the_margin_exactly_where_it_is_the_same():
    rng = np.random.default_rng(1)
    for _ in range(300):
        found = compare_means(normal(rng, 12), normal(rng, 15) + 0.3, 1.0)
        inside = found.low > -1.0 and found.high < 1.0
        assert inside == (found.p_same < 0.05)
        assert found.low < found.effect < found.high


def test_the_interval_holds_the_true_effect():
    rng = np.random.default_rng(2)
    inside = []
    for _ in range(TRIALS):
        found = compare_means(normal(rng, 10), normal(rng, 10) + 0.7, 1.0)
        inside.append(found.low <= 0.7 <= found.high)
    assert np.mean(inside) == pytest.approx(0.9, abs=0.02)


def test_a_comparison_by_hand():
    found = compare_means([1.0, 2.0, 3.0], [2.0, 4.0, 6.0, 8.0], 1.0)
    assert (found.first_mean, found.second_mean) == (2.0, 5.0)
    assert found.sd == pytest.approx(math.sqrt((2 + 20) / 5))
    assert found.effect == pytest.approx(3.0 / found.sd)
    low, high = effect_interval(found.effect, 3, 4, 0.05)
    assert (found.low, found.high) == (low, high)


def test_few_seeds_show_nothing():
    assert power_of_same(3, 3, 1.0) < 0.2
    assert decide(compare_means([1.0, 2.0], [1.0, 2.0], 1.0)) == "not shown"
    with pytest.raises(ValueError, match="two values a side"):
        compare_means([1.0], [1.0, 2.0], 1.0)


def test_values_without_scatter():
    assert decide(compare_means([500.0] * 5, [500.0] * 5, 1.0)) == "same"
    other = compare_means([500.0] * 5, [499.0] * 5, 1.0)
    assert decide(other) == "different"
    assert other.effect == -math.inf


def test_a_difference_counts_after_it_is_adjusted_for_others():
    found = compare_means([0.0, 1.0, 2.0, 3.0], [3.0, 4.0, 5.0, 6.0], 0.1)
    assert decide(found) == "different"
    assert decide(found, p_different=min(1.0, 3 * 0.03)) == "not shown"
