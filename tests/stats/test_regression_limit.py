"""The limit of `tiebreak compare --fail-over`, by hand: it is of time, not of speed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tiebreak.core.errors import UsageError
from tiebreak.stats import regression_limit
from tiebreak.stats.compare import REFERENCE, CellPair
from tiebreak.stats.summaries import Comparison


def pair(ratio: float = 1.0, low: float = 1.0, verdict: Any = "AMBIGUOUS", **fields: Any):
    """Return a cell whose speed in B is `ratio` of that in A, and at least `low` of it."""
    change = Comparison.single_block(ratio)
    change = Comparison(**{**vars(change), "low": low, "high": 2 * ratio, "verdict": verdict})
    side: Any = SimpleNamespace(visits=3, seconds_per_unit=1.0)
    defaults = {"cell_id": "c", "group": "g", "a": side, "b": side, "change": change, "why": ""}
    return CellPair(**{**defaults, **fields})


def check(limit: float, *pairs: CellPair) -> regression_limit.LimitCheck:
    """Check pairs against a limit."""
    judged = [pair for pair in pairs if pair.change and not pair.why]
    compared: Any = SimpleNamespace(pairs=pairs, judged=judged)
    return regression_limit.check_limit(compared, limit)


def test_a_slowdown_is_additional_time():
    assert pair(ratio=0.8).slowdown == pytest.approx(0.25)  # five seconds for four
    assert pair(ratio=1.25).slowdown == pytest.approx(-0.2)
    assert pair(low=0.5).slowdown_limit == 1.0  # perhaps twice the time
    sides: Any = [SimpleNamespace(visits=1, seconds_per_unit=s) for s in (2.0, 2.5)]
    alone = pair(a=sides[0], b=sides[1], change=None)
    assert alone.slowdown == 0.25
    assert alone.slowdown_limit is None
    assert pair(change=None, is_comparable=False).slowdown is None


def test_slower_is_a_verdict_and_an_estimate_beyond_the_limit():
    slow = pair(ratio=0.8, low=0.7, verdict="SLOWER")
    assert check(0.22, slow).slower == [slow]  # as a share of speed it would be 20 %
    assert not check(0.22, slow).passed
    at_the_limit = check(0.25, slow)
    assert at_the_limit.passed
    assert not at_the_limit.slower
    assert at_the_limit.unsure == [slow]  # 1 / 0.7 is 43 % more
    assert not at_the_limit.suspect
    certain = pair(ratio=0.8, low=0.8, verdict="SLOWER")
    assert check(0.2500001, certain) == (0.2500001, [], [], [], [])


def test_without_a_verdict_it_is_unsure_and_fails_nothing():
    looks_slow, slower = pair(ratio=0.8, low=0.7), pair(ratio=0.5, low=0.4)
    found = check(0.22, looks_slow, slower)
    assert found.passed
    assert found.unsure == [looks_slow, slower]
    assert found.suspect == [slower, looks_slow]  # the slowest first
    faster = pair(ratio=2.0, low=1.5, verdict="FASTER")
    assert check(0.03, faster) == (0.03, [], [], [], [])


def test_within_the_limit_is_what_the_whole_interval_excludes():
    half = pair(ratio=1.0, low=0.5)  # at most 100 % more time
    assert check(0.99, half).unsure == [half]
    assert not check(1.0, half).unsure
    unjudged = pair(ratio=1.0, low=0.99, why="flagged in B: nan")
    assert check(0.5, unjudged).unsure == [unjudged]
    assert not check(0.5, pair(change=None, why=REFERENCE)).unsure
    never: Any = SimpleNamespace(visits=0, seconds_per_unit=None)
    assert not check(0.5, pair(a=never, b=never, change=None, why="no visit")).unsure


def test_what_broke_fails_whatever_the_limit():
    gone: Any = SimpleNamespace(visits=0, seconds_per_unit=None)
    broke = pair(b=gone, change=None, why="no visit finished in B")
    assert check(0.9, broke).broke == [broke]
    assert not check(0.9, broke).passed
    assert not check(0.9, broke).unsure


@pytest.mark.parametrize(
    ("text", "limit"), [("3%", 0.03), ("0.03", 0.03), (" 12.5% ", 0.125), ("99%", 0.99)]
)
def test_a_limit_is_a_percentage_or_a_share(text, limit):
    assert regression_limit.parse_limit(text) == pytest.approx(limit)


@pytest.mark.parametrize("text", ["3", "100%", "1.9%", "0.019", "0", "-3%", "three", "3%%", "nan"])
def test_other_limits_are_refused(text):
    with pytest.raises(UsageError, match="--fail-over takes a percentage"):
        regression_limit.parse_limit(text)
