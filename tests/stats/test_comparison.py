"""A comparison the other way round."""

from __future__ import annotations

import dataclasses
import math

from tiebreak.stats.summaries import Comparison


def test_ends_of_intervals_change_places_and_are_inverted():
    one = Comparison(
        blocks=4, ratio=2.0, low=1.6, high=2.5, bootstrap_low=1.25, bootstrap_high=4.0,
        sd=0.1, p=0.01, p_holm=0.02, detectable=0.05, verdict="FASTER", t_low=0.5, t_high=8.0,
    )  # fmt: skip
    other = one.inverted()
    assert (other.low, other.ratio, other.high) == (0.4, 0.5, 0.625)
    assert (other.bootstrap_low, other.bootstrap_high) == (0.25, 0.8)
    assert (other.t_low, other.t_high) == (0.125, 2.0)
    assert other.verdict == "SLOWER"
    assert (other.blocks, other.sd, other.p, other.p_holm) == (4, 0.1, 0.01, 0.02)
    assert other.inverted() == one


def test_what_is_not_known_stays_so():
    assert Comparison.single_block(2.0).inverted() == Comparison.single_block(0.5)
    endless = dataclasses.replace(Comparison.single_block(2.0), low=0.0, high=4.0)
    assert endless.inverted().high == math.inf
