"""A replay is filled by the steps that are in it, not by those that were only collected."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tiebreak.loops.base import Loop

CONFIG = SimpleNamespace(warmup_iterations=10, iteration_steps=8)


@pytest.mark.parametrize(
    ("steps", "collected", "is_warmup"),
    [(0, 0, True), (79, 0, True), (80, 0, False), (100, 21, True), (100, 20, False)],
)
def test_collected_steps_fill_no_replay(steps, collected, is_warmup):
    loop = SimpleNamespace(steps=steps, collected=collected, config=CONFIG)
    assert Loop.is_warmup.fget(loop) is is_warmup


def test_what_learns_from_the_first_iteration_has_no_warmup():
    on_policy = SimpleNamespace(iteration_steps=8)
    loop = SimpleNamespace(steps=0, collected=0, config=on_policy)
    assert Loop.is_warmup.fget(loop) is False
