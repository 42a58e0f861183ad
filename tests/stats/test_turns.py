"""Visits that took turns: their samples are compared with their neighbours, and with no others."""

from __future__ import annotations

import numpy as np
import pytest
from stats import synthetic

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


def flags(records):
    (group,) = summarize(records)
    return {cell.label: {flag.name for flag in cell.flags} for cell in group.cells}


def three(own=None):
    """Three cells in turns on a machine of STATES; `own` is what the third does besides."""
    labels = "torch compile", "nnx split", "linen jit"
    jitter = 1 + 0.02 * np.random.default_rng(1).standard_normal((3, len(STATES)))
    samples = [jitter[i] * STATES * (own if own is not None and i == 2 else 1) for i in range(3)]
    return [
        synthetic.visit(label, 0, row, turns="t")
        for label, row in zip(labels, samples, strict=True)
    ]


def test_what_the_machine_does_to_all_flags_none():
    assert flags(three()) == {"torch compile": set(), "nnx split": set(), "linen jit": set()}
    apart = [{**r, "turns": str(i)} for i, r in enumerate(three())]
    assert all(flags(apart).values())


@pytest.mark.parametrize(
    ("own", "flag"),
    [
        (0.8 + 0.2 * (np.arange(11) % 4), "noisy"),
        (np.where(np.arange(11) < 5, 1.0, 1.4), "unsteady"),
        (np.where(np.arange(11) % 5, 1.0, 3.0), "heavy_tail"),
    ],
)
def test_what_a_cell_does_alone_flags_it_alone(own, flag):
    found = flags(three(own))
    assert flag in found["linen jit"]
    assert not found["torch compile"] | found["nnx split"]
