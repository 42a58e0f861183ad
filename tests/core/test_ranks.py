"""Ranks: addresses that are understood or refused, and equal parts of arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from tiebreak.core.errors import UsageError
from tiebreak.core.ranks import ALONE, Address, Ranks, require_parts


class Pair(NamedTuple):
    left: Any
    right: Any


class Second(Ranks):
    rank, count = 1, 2


def test_an_address_names_the_first_process_and_this_one():
    assert Address.parse("10.0.0.1:1234,1,4") == Address("10.0.0.1:1234", 1, 4)
    assert Address.parse("[::1]:80,0,2").coordinator == "[::1]:80"
    assert Address.parse("auto") == Address()


@pytest.mark.parametrize("text", ["", "ppo", "host,0,2", "host:1,0", "host:x,0,2", "a b:1,0,2"])
def test_what_is_no_address_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match=r"valid: nothing .* HOST:PORT,RANK,COUNT, e\.g\. 10"):
        Address.parse(text)


def test_a_rank_beyond_the_last_is_refused():
    with pytest.raises(UsageError, match=r"rank 2 of 2; valid: 0 to 1"):
        Address.parse("host:1,2,2")


def test_a_part_is_of_every_array_along_the_axis():
    tree = Pair(np.arange(12).reshape(3, 4), (np.arange(8).reshape(2, 4),))
    part = Second().part(tree, axis=1)
    assert type(part) is Pair
    assert part.left.tolist() == [[2, 3], [6, 7], [10, 11]]
    assert part.right[0].tolist() == [[2, 3], [6, 7]]
    assert Second().part((), axis=2) == ()


def test_a_process_alone_exchanges_nothing():
    tree = Pair(np.zeros(2), np.ones(2))
    assert ALONE.part(tree, axis=0) is ALONE.gather(tree, axis=0) is ALONE.mean(tree) is tree
    assert (ALONE.agree(3), ALONE.tell("x"), ALONE.gather_all(1)) == (3, "x", [1])


def test_what_cannot_be_shared_out_equally_is_refused():
    require_parts("num_envs", 6, 3)
    with pytest.raises(UsageError, match=r"num_envs is 5, which 2 processes .* a multiple of 2"):
        require_parts("num_envs", 5, 2)
