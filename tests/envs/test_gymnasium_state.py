"""A snapshot of a Gymnasium task has all that decides how it continues, or there is none."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from tiebreak.envs import gymnasium_state

CLASSIC = ("CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0")


def started(name, seed):
    env = gymnasium.make(name)
    env.reset(seed=seed)
    env.action_space.seed(seed)
    return env


@pytest.mark.parametrize("name", CLASSIC)
def test_a_restored_task_goes_on_with_the_same_numbers(name):
    env, other = started(name, 1), started(name, 2)
    actions = [env.action_space.sample() for _ in range(12)]
    for action in actions[:6]:
        env.step(action)
    gymnasium_state.restore(other, gymnasium_state.snapshot(env))
    for action in actions[6:]:
        ours, theirs = env.step(action), other.step(action)
        np.testing.assert_array_equal(ours[0], theirs[0])
        assert ours[1:4] == theirs[1:4]
    np.testing.assert_array_equal(env.reset()[0], other.reset()[0])  # and draws the same


@pytest.mark.parametrize("value", [None, 3, True, 0.25, (1, 2.5), np.float32(0.1)])
def test_attributes_of_every_plain_kind_come_back(value):
    env, other = started("CartPole-v1", 1), started("CartPole-v1", 1)
    env.unwrapped.steps_beyond_terminated = value
    other.unwrapped.steps_beyond_terminated = "another"
    gymnasium_state.restore(other, gymnasium_state.snapshot(env))
    found = other.unwrapped.steps_beyond_terminated
    if isinstance(value, tuple):
        np.testing.assert_array_equal(found, value)
    else:
        assert found == value
    assert isinstance(found, type(value)) or isinstance(value, tuple)


def test_what_cannot_be_read_has_no_snapshot():
    class Own(gymnasium.Wrapper):
        """May hold anything."""

    assert gymnasium_state.snapshot(Own(started("CartPole-v1", 1))) is None

    class Mine(gymnasium.Env):
        observation_space = action_space = gymnasium.spaces.Discrete(2)

    assert gymnasium_state.snapshot(Mine()) is None
