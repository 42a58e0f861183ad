"""The rule of the row's real half, and what it plants."""

from __future__ import annotations

import pytest

from tiebreak.selftest.real import real_slowdown


@pytest.mark.parametrize("probe", real_slowdown.PROBES)
def test_what_is_planted_is_whole_calls(probe):
    """5 % more of ten calls would be ten calls."""
    times = int(probe.partition(" x")[2])
    for factor in real_slowdown.FACTORS:
        planted = times * float(factor.removeprefix("x"))
        assert round(planted) == pytest.approx(planted)


def test_the_rule_of_real_slowdowns():
    seen = [{"factor": f, "low": 0.99 / f, "high": 1.01 / f, "detectable": 0.03,
             "verdict": "SLOWER"} for f in (1.02, 1.05, 1.1, 1.2)]  # fmt: skip
    assert real_slowdown.judge(seen) == (
        True, {"intervals": 4, "covered": 4, "visible": 3, "seen": 3, "visible_5": 1,
               "seen_5": 1, "wrong_sign": 0},
    )  # fmt: skip
    unseen = [{**f, "verdict": "AMBIGUOUS"} for f in seen]
    wrong = [*seen[:3], {**seen[3], "verdict": "FASTER"}]
    beside = [{**f, "low": 1.5, "high": 1.6} for f in seen]
    for found in (unseen, wrong, beside, []):
        assert not real_slowdown.judge(found)[0], found
