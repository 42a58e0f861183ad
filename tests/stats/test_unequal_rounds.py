"""Visits that took turns, of which one ended a few rounds before the others: by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tiebreak.stats import interleaved_pairs as pairs
from tiebreak.stats.intervals import LEAST_ROUNDS, LUCK
from tiebreak.stats.ratios import _paired
from tiebreak.stats.visits import Visit

BLOCK = ("run", 0)
LN2 = math.log(2)


def visit(*samples: float) -> Visit:
    return Visit(np.array(samples), turns="t")


LONG, OTHER, SHORT = visit(1, 2, 4), visit(4, 2, 4), visit(2, 8)
GROUP = {name: {BLOCK: v} for name, v in {"long": LONG, "other": OTHER, "short": SHORT}.items()}


def test_the_machine_s_state_is_of_the_cells_that_have_all_rounds():
    (frame,) = pairs.frames(GROUP).values()
    np.testing.assert_allclose(frame, [LN2, LN2, 2 * LN2])  # of 1 and 4, 2 and 2, 4 and 4


def test_a_short_visit_is_compared_with_its_own_rounds():
    states = pairs.frames(GROUP)
    np.testing.assert_allclose(pairs.log_samples(SHORT, BLOCK, states), [0, 2 * LN2], atol=1e-12)
    other, this = pairs.paired_logs(LONG, SHORT, BLOCK, states)
    np.testing.assert_allclose(other, [-LN2, 0, 0], atol=1e-12)
    np.testing.assert_allclose(this, [0, 2 * LN2], atol=1e-12)


def test_flags_are_of_the_rounds_that_all_have():
    """The machine was slow in the second round, for both; what one alone did later is unseen."""
    steady = pairs._without_machine_state([[1, 2, 1, 8], [3, 6, 3]])
    np.testing.assert_allclose(steady, [[1, 1, 1], [3, 3, 3]])


@pytest.mark.parametrize("shorter", ["other", "this"])
def test_the_error_of_a_block_is_of_rounds_side_by_side(shorter):
    """Cell and machine rise together: their difference is certain, and no other pairing's is."""
    rising = np.linspace(0.0, 1.0, LEAST_ROUNDS + 5) ** 2
    other, this = rising + 0.5, rising
    if shorter == "other":
        other = other[:LEAST_ROUNDS]
    else:
        this = this[:LEAST_ROUNDS]
    found = _paired([(other, this)] * 2, interleaved=True, stream="s")
    assert found.expected == pytest.approx(2 * LUCK**2)
    too_few = [(other[: LEAST_ROUNDS - 1], this), (other, this)]
    assert _paired(too_few, interleaved=True, stream="s").expected is None
    assert _paired([(other, this)] * 2, interleaved=False, stream="s").expected is None
