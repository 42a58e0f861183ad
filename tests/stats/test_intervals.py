"""The arithmetic keeps its promises: simulated A/A races, coverage, power, Holm, verdicts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tiebreak.stats import intervals

SUITES, BLOCKS, SAMPLES = 2000, 10, 20
PRINTED = 200
"""Runs that print an effect; each is followed by SUITES / PRINTED others."""


def _visits(rng: np.random.Generator, process: float, sample: float) -> np.ndarray:
    """Log seconds [suites, 2 programs, blocks, samples] of two *identical* programs.

    The machine drifts as a random walk over visits in the order A B A B …, and every process is
    lucky or not as a whole.
    """
    shape = (SUITES, 2, BLOCKS, 1)
    drift = rng.normal(0, 0.01, (SUITES, BLOCKS, 1, 1)).cumsum(1).swapaxes(1, 2)
    luck = rng.normal(0, process, shape)
    return drift + luck + rng.normal(0, sample, (SUITES, 2, BLOCKS, SAMPLES))


@pytest.mark.parametrize(("process", "sample"), [(0.002, 0.05), (0.02, 0.02), (0.1, 0.01)])
def test_identical_programs_are_called_different_as_rarely_as_promised(process, sample):
    logs = np.median(_visits(np.random.default_rng(1), process, sample), axis=-1)
    found = intervals.t_interval(logs[:, 0] - logs[:, 1])
    assert 0.036 <= np.mean(found.p < 0.05) <= 0.065
    different = (found.low > 0) | (found.high < 0)
    assert np.array_equal(different, found.p < 0.05)


def test_the_same_race_run_aaaabbbb_and_pooled_calls_them_different():
    """The control: were the calibration test blind, this would pass for calibrated too."""
    rng = np.random.default_rng(2)
    drift = rng.normal(0, 0.01, (SUITES, 2 * BLOCKS, 1)).cumsum(1)
    luck = rng.normal(0, 0.02, (SUITES, 2 * BLOCKS, 1))
    logs = drift + luck + rng.normal(0, 0.02, (SUITES, 2 * BLOCKS, SAMPLES))
    a, b = logs[:, :BLOCKS].reshape(SUITES, -1), logs[:, BLOCKS:].reshape(SUITES, -1)
    assert np.mean(intervals.t_interval(a - b).p < 0.05) > 0.3


@pytest.mark.parametrize("kind", ["normal", "skewed", "autocorrelated"])
def test_the_interval_covers_the_truth(kind):
    rng, truth = np.random.default_rng(3), 0.3
    noise = rng.normal(0, 0.02, (SUITES, 2, BLOCKS, SAMPLES))
    if kind == "skewed":
        noise = rng.gamma(2, 0.02, noise.shape)
    if kind == "autocorrelated":
        noise = noise.cumsum(-1)
    logs = np.median(noise, axis=-1)
    found = intervals.t_interval(truth + logs[:, 0] - logs[:, 1])
    covered = (found.low <= truth) & (truth <= found.high)
    assert 0.93 <= covered.mean() <= 0.97


@pytest.mark.parametrize(("blocks", "family"), [(3, 1), (10, 1), (10, 20), (30, 5)])
def test_the_next_run_sees_the_effect_that_one_printed_four_times_in_five(blocks, family):
    """Both runs know the scatter from their own blocks only."""
    rng, sd, seen, wrong = np.random.default_rng(4), 0.03, 0, 0
    for printed in rng.normal(0, sd, (PRINTED, blocks)).std(-1, ddof=1):
        effect = math.log1p(intervals.detectable(printed, blocks, family))
        d = intervals.t_interval(rng.normal(effect, sd, (SUITES // PRINTED, blocks)))
        verdicts = [
            intervals.verdict(mean, low, high, min(1, p * family))
            for mean, low, high, p, _ in zip(*d, strict=True)
        ]
        seen += verdicts.count("FASTER")
        wrong += verdicts.count("SLOWER")
    assert 0.79 <= seen / SUITES <= 0.85
    assert wrong == 0


def test_detectable_never_promises_less_than_the_margin():
    assert intervals.detectable(1e-9, 10) == pytest.approx(0.02, abs=1e-6)
    assert math.isnan(intervals.detectable(0.1, 1))
    assert intervals.detectable(100.0, 2, family=100) == math.inf


@pytest.mark.parametrize(("sizes", "spreads"), [((10, 10), (1, 1)), ((3, 20), (4, 1))])
def test_two_samples_of_unequal_spread_cover_their_difference(sizes, spreads):
    rng, truth = np.random.default_rng(7), 0.3
    covered = visible = 0
    for _ in range(SUITES):
        a = rng.normal(0, spreads[0], sizes[0])
        b = rng.normal(truth, spreads[1], sizes[1])
        found = intervals.welch(a, b)
        covered += found.low <= truth <= found.high
        visible += (found.p < 0.05) == (found.low > 0 or found.high < 0)
    assert 0.93 <= covered / SUITES <= 0.97
    assert visible == SUITES


def test_pooled_variances_would_not_cover_it():
    """The control: Student's two-sample interval, on the second case above, covers too rarely."""
    from scipy import stats

    rng = np.random.default_rng(7)
    a, b = rng.normal(0, 4, (SUITES, 3)), rng.normal(0, 1, (SUITES, 20))
    assert np.mean(stats.ttest_ind(a, b, axis=1).pvalue > 0.05) < 0.9


def test_welch_agrees_with_scipy_and_an_allowance_widens_it():
    from scipy import stats

    a, b = [1.0, 1.2, 0.9, 1.1], [1.5, 1.3, 1.6]
    found, expected = intervals.welch(a, b), stats.ttest_ind(b, a, equal_var=False)
    assert (found.p, found.freedom) == pytest.approx((expected.pvalue, expected.df))
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))
    wide = intervals.welch(a, b, allowance=0.1)
    assert (wide.low, wide.high) == pytest.approx((found.low - 0.1, found.high + 0.1))
    assert intervals.welch(a, b, allowance=found.low).p == pytest.approx(0.05)
    assert intervals.welch(a, b, allowance=1.0).p == 1
    assert intervals.welch([1, 1], [2, 2]).p == 0
    assert intervals.welch([1, 1], [1, 1]).p == 1
    with pytest.raises(ValueError, match="two values a side"):
        intervals.welch([1.0], b)


def test_what_is_visible_through_an_allowance_is_seen_four_times_in_five():
    rng, allowance, seen = np.random.default_rng(8), 0.03, 0
    for _ in range(PRINTED):
        first = intervals.welch(*rng.normal(0, 0.02, (2, 10)), allowance)
        detectable = intervals.detectable_from_error(first.error, first.freedom, 3, allowance)
        effect = math.log1p(detectable)
        for _ in range(SUITES // PRINTED):
            a, b = rng.normal(0, 0.02, (2, 10))
            found = intervals.welch(a, b + effect, allowance)
            seen += intervals.verdict(found.mean, found.low, found.high, 3 * found.p) == "FASTER"
    assert 0.79 <= seen / SUITES <= 0.85


def test_one_block_has_no_interval():
    found = intervals.t_interval(np.array([0.5]))
    assert found.mean == 0.5
    assert np.isnan([found.low, found.high, found.p, found.sd]).all()


def test_blocks_without_noise_are_certain():
    same, different = (intervals.t_interval(np.full(4, x)) for x in (0.0, 0.5))
    assert same.p == 1
    assert different.p == 0
    assert different.low == different.high == 0.5


def test_holm_by_hand():
    assert intervals.holm([0.01, 0.04, 0.03], 3) == pytest.approx([0.03, 0.06, 0.06])
    assert intervals.holm([0.01, 0.04, 0.03], 5) == pytest.approx([0.05, 0.12, 0.12])
    assert intervals.holm([0.9, 0.001], 2) == pytest.approx([0.9, 0.002])
    assert intervals.holm([], 4) == []


def test_holm_keeps_the_whole_family_below_the_level():
    rng, family = np.random.default_rng(5), 8
    p = intervals.t_interval(rng.normal(0, 1, (SUITES, family, BLOCKS))).p
    wrong = [min(intervals.holm(list(row), family)) < 0.05 for row in p]
    assert 0.035 <= np.mean(wrong) <= 0.065
    assert np.mean((p < 0.05).any(-1)) > 0.25  # what it would be without


@pytest.mark.parametrize(
    ("ratio", "low", "high", "p", "expected"),
    [
        (1.10, 1.05, 1.15, 0.01, "FASTER"),
        (0.90, 0.85, 0.95, 0.01, "SLOWER"),
        (1.10, 1.05, 1.15, 0.06, "AMBIGUOUS"),  # not after Holm
        (1.10, 0.99, 1.22, 0.01, "AMBIGUOUS"),  # interval holds 1
        (1.019, 1.01, 1.03, 0.001, "AMBIGUOUS"),  # effect too small to matter, not surely SAME
        (1.01, 1.005, 1.015, 0.001, "SAME"),  # different, but not by 2 %
        (1.00, 0.985, 1.015, 0.9, "SAME"),
        (1.00, 0.97, 1.03, 0.9, "AMBIGUOUS"),  # "not significant" is never "same"
        (1.50, math.nan, math.nan, math.nan, "AMBIGUOUS"),
    ],
)
def test_verdicts(ratio, low, high, p, expected):
    logs = [math.log(x) for x in (ratio, low, high)]
    assert intervals.verdict(*logs, p) == expected


def test_the_bootstrap_sees_blocks_and_samples_and_repeats_itself():
    rng = np.random.default_rng(6)
    blocks = rng.normal(0, 0.05, (10, 1))
    a = np.exp(0.5 + blocks + rng.normal(0, 0.001, (10, 20)))
    b = np.exp(rng.normal(0, 0.001, (10, 20)))
    low, high = intervals.bootstrap(list(a), list(b), seed=1)
    assert (low, high) == intervals.bootstrap(list(a), list(b), seed=1)
    assert low < 0.5 + blocks.mean() < high
    assert 0.03 < high - low < 0.09  # 2 · 1.96 · 0.05/√10 = 0.062: from blocks, not 200 samples
    noisy = np.exp(rng.normal(0, 0.2, (3, 20)))
    low, high = intervals.bootstrap(list(noisy), [np.ones(20)] * 3, seed=1)
    assert high - low > 0.05  # from samples, where blocks agree


@pytest.mark.parametrize("shape", [(1,), (2,), (5,), (8,), (3, 7), (200, 6), (4, 1)])
def test_the_fast_median_is_numpys_to_the_last_bit(shape):
    values = np.random.default_rng(0).lognormal(size=shape)
    np.testing.assert_array_equal(intervals.median(values), np.median(values, axis=-1))
