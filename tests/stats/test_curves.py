"""Learning results by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tiebreak.stats import curves


def test_normalised_auc_by_hand():
    assert curves.normalised_auc([0, 10, 20], [0, 100, 100], worst=0, best=100) == 0.75
    assert curves.normalised_auc([0, 1, 4], [-10, 10, 10], worst=-10, best=10) == 0.875


def test_a_broken_curve_is_refused():
    with pytest.raises(ValueError, match="increasing"):
        curves.normalised_auc([0, 0], [1, 2], 0, 1)
    with pytest.raises(ValueError, match="exceed"):
        curves.normalised_auc([0, 1], [1, 2], 1, 1)


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
