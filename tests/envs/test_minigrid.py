"""Gymnasium's MiniGrid, by its ids: registered when needed, flattened, without its mission."""

from __future__ import annotations

import importlib.util

import gymnasium
import numpy as np
import pytest

from tiebreak import make_env
from tiebreak.core.errors import MissingDependency
from tiebreak.envs import gymnasium_engine

EMPTY = "gymnasium/MiniGrid-Empty-5x5-v0"
RIGHT, FORWARD = 1, 2
SOLUTION = [FORWARD, FORWARD, RIGHT, FORWARD, FORWARD]


@pytest.fixture(autouse=True)
def registered():
    """Register its ids again if another test has restored the registry of before the import."""
    minigrid = pytest.importorskip("minigrid")
    if EMPTY.partition("/")[2] not in gymnasium.registry:
        minigrid.register_minigrid_envs()


@pytest.mark.parametrize("task", [EMPTY, EMPTY.replace("/", "/minigrid:")])
def test_it_is_solved_from_its_flattened_observations(task):
    env = make_env(task, 2, 0)
    assert env.spec.observation_shape == (4 + 7 * 7 * 3,)
    assert env.spec.num_actions == 7
    first = env.reset()
    steps = [env.step(np.array([action, RIGHT])) for action in SOLUTION]
    direction = [step.final_obs[0, :4].tolist() for step in steps]
    assert direction == [[1, 0, 0, 0]] * 2 + [[0, 1, 0, 0]] * 3
    assert [step.terminated.tolist() for step in steps] == [[False] * 2] * 4 + [[True, False]]
    assert steps[-1].reward[0] == pytest.approx(1 - 0.9 * 5 / 100)
    np.testing.assert_array_equal(steps[-1].obs[0], first[0])
    env.close()


def test_it_is_listed_and_drawn():
    assert EMPTY.partition("/")[2] in gymnasium_engine.tasks()
    env = make_env(EMPTY, 1, 0, render=True)
    env.reset()
    assert env.render(0).ndim == 3
    env.close()


def test_without_the_package_the_line_says_how_to_get_it(monkeypatch):
    find = importlib.util.find_spec
    hidden = lambda name, *rest: None if name == "minigrid" else find(name, *rest)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    monkeypatch.delitem(gymnasium.registry, EMPTY.partition("/")[2])
    with pytest.raises(MissingDependency, match=r"needs minigrid, .*pip install .*\[minigrid\]"):
        make_env(EMPTY)
