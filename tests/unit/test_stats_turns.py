"""Visits that took turns: their samples are compared with their neighbours, and with no others."""

from __future__ import annotations

import numpy as np
import pytest
from unit import synthetic

from tiebreak.stats.ratios import summarize

STATES = np.array([1.0, 1.0, 1.9, 1.9, 1.9, 1.0, 1.0, 1.9, 1.0, 1.9, 1.0])
"""A machine that is fast and slow, round by round."""


def in_turns(turns):
    """Two cells in two blocks, one 5 % slower, and no noise but the machine's and a little more."""
    jitter = 1 + 0.02 * np.random.default_rng(0).standard_normal((2, 2, len(STATES)))
    return [
        synthetic.visit(
            label, block, jitter[i, block] * STATES * (1 + 0.05 * i), turns=turns(block)
        )
        for i, label in enumerate(("torch compile", "nnx split"))
        for block in (0, 1)
    ]


def test_visits_that_took_turns_are_compared_sample_by_sample():
    """In a cell's median, which states it met decides; neighbours met the same."""
    ((_, slower),) = [group.cells for group in summarize(in_turns(lambda block: f"t{block}"))]
    assert 1 / slower.comparison.ratio == pytest.approx(1.05, abs=0.015)
    low, high = slower.comparison.bootstrap_low, slower.comparison.bootstrap_high
    assert 0.92 < low < slower.comparison.ratio < high < 0.98


@pytest.mark.parametrize("turns", [lambda block: "", lambda block: None])
def test_visits_that_did_not_are_compared_by_their_medians(turns):
    records = in_turns(turns)
    ((_, slower),) = [group.cells for group in summarize(records)]
    medians = [np.log(r["value_s"]) for r in records]
    wanted = np.exp(np.mean(medians[:2]) - np.mean(medians[2:]))
    assert slower.comparison.ratio == pytest.approx(wanted)
    assert slower.comparison.bootstrap_high / slower.comparison.bootstrap_low > 1.3


def test_turns_of_different_sets_are_no_neighbours():
    """A resumed block: what was left of it took turns later, in other states of the machine."""
    records = in_turns(lambda block: "t")
    for r in records[2:]:
        r["turns"] = "u"
    medians = [np.log(r["value_s"]) for r in records]
    wanted = np.exp(np.mean(medians[:2]) - np.mean(medians[2:]))
    ((_, slower),) = [group.cells for group in summarize(records)]
    assert slower.comparison.ratio == pytest.approx(wanted)


def test_rounds_that_one_sat_out_are_left_out():
    records = in_turns(lambda block: f"t{block}")
    for r in records[2:]:
        r["samples_s"] = r["samples_s"][:6]
    ((_, slower),) = [group.cells for group in summarize(records)]
    assert 1 / slower.comparison.ratio == pytest.approx(1.05, abs=0.02)
