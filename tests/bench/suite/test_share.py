"""Shares of a suite's blocks: whole blocks, enough of them, and a folder of their own each."""

from __future__ import annotations

import pytest

from tiebreak.bench.suite.plan import Plan, Scale
from tiebreak.bench.suite.share import Share, take_share
from tiebreak.core.errors import UsageError


def shares(settings: Scale, of: int) -> list[Scale]:
    plan = Plan("mine", "full", 3, settings, ())
    return [take_share(plan, Share(part, of)).settings for part in range(1, of + 1)]


@pytest.mark.parametrize(("blocks", "of"), [(10, 1), (10, 2), (10, 3), (50, 7)])
def test_shares_have_all_blocks_and_no_more(blocks, of):
    assert sum(one.blocks for one in shares(Scale(blocks=blocks), of)) == blocks


def test_no_share_is_too_small_for_an_interval_of_its_own():
    assert [one.blocks for one in shares(Scale(blocks=10), 5)] == [3] * 5
    assert [one.blocks for one in shares(Scale(blocks=2), 3)] == [2] * 3
    assert [one.blocks for one in shares(Scale(blocks=6, least_blocks=4), 2)] == [4, 4]


def test_stages_are_divided_and_end_after_a_mirrored_block():
    for one in shares(Scale(blocks=50, stages=(10, 20, 30, 50)), 2):
        assert one.stages == (6, 10, 16, 26)
        assert one.blocks == 26
    (first, *_) = shares(Scale(blocks=50, stages=(10, 20, 30, 50)), 10)
    assert first.stages == (4, 6)


def test_a_share_says_which_it_is():
    plan = Plan("mine", "full", 3, Scale(), ())
    assert take_share(plan, Share.parse("2/3")).share == "2/3"
    for text in ("", "2", "0/2", "3/2", "a/b", "1/2/3", "-1/2", "1/0"):
        with pytest.raises(UsageError, match="--share takes a part and their number"):
            Share.parse(text)
