"""Learning results by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tiebreak.stats import curves


def test_the_mean_height_by_hand():
    assert curves.mean_height([0, 10, 20], [0, 100, 100]) == 75
    assert curves.mean_height([0, 1, 4], [-10, 10, 10]) == 7.5


def test_a_broken_curve_is_refused():
    with pytest.raises(ValueError, match="increasing"):
        curves.mean_height([0, 0], [1, 2])


def test_final_return_is_the_last_tenth():
    assert curves.final_return(range(100)) == 94.5
    assert curves.final_return([1.0, 7.0]) == 7.0


def test_iqm_ignores_a_quarter_on_each_side():
    assert curves.iqm(np.array([-1000.0, 1, 3, 1000])) == 2


def test_the_estimate_covers_the_truth_and_repeats_itself():
    rng = np.random.default_rng(0)
    runs = [curves.estimate(rng.normal(5, 1, 20), seed=1) for _ in range(200)]
    covered = np.mean([r.low <= 5 <= r.high for r in runs])
    assert 0.86 <= covered <= 0.98
    values = [1.0, 2.0, 3.0, 9.0]
    assert curves.estimate(values, seed=3) == curves.estimate(values, seed=3)
    assert curves.estimate(values, seed=3).seeds == 4


def test_one_seed_has_no_interval():
    with pytest.raises(ValueError, match="at least two"):
        curves.estimate([1.0], seed=0)


def test_the_probability_of_improvement_is_the_share_of_pairs_with_ties_as_halves():
    found = curves.probability_of_improvement([1.0, 3.0], [0.0, 1.0, 3.0], seed=0)
    assert found.value == pytest.approx((1 + 0.5 + 0 + 1 + 1 + 0.5) / 6)
    assert 0 <= found.low < found.value < found.high <= 1
    assert curves.probability_of_improvement([5.0, 6.0], [1.0, 2.0], seed=0)[:3] == (1, 1, 1)
    with pytest.raises(ValueError, match="at least two"):
        curves.probability_of_improvement([1.0], [1.0, 2.0], seed=0)


def test_the_interval_of_the_probability_covers_the_truth():
    rng = np.random.default_rng(3)
    runs = [
        curves.probability_of_improvement(rng.normal(0, 1, 15), rng.normal(0, 1, 15), seed=1)
        for _ in range(60)
    ]
    assert np.mean([run.low <= 0.5 <= run.high for run in runs]) >= 0.85


def test_a_profile_is_the_share_of_seeds_above_each_threshold():
    share, low, high = curves.performance_profile([1.0, 2.0, 2.0, 5.0], np.array([0, 1, 2, 5]), 0)
    assert share.tolist() == [1.0, 0.75, 0.25, 0.0]
    assert np.all((low <= share) & (share <= high))
    assert (low[0], high[0], low[3], high[3]) == (1, 1, 0, 0)


def test_a_stratified_estimate_resamples_within_each_task():
    apart = [[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]
    found = curves.estimate_strata(apart, seed=0)
    assert found[:3] == (0.5, 0.5, 0.5)  # no resample mixes the tasks
    assert found.seeds == 8
    assert curves.estimate_strata([[1.0, 2.0, 3.0, 9.0]], seed=3).value == 2.5
    with pytest.raises(ValueError, match="each task"):
        curves.estimate_strata([[1.0, 2.0], [1.0]], seed=0)
