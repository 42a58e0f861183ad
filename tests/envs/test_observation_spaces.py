"""Images and dictionaries of Gymnasium, as agents take them."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from tiebreak import make_env
from tiebreak.core.errors import UsageError
from tiebreak.envs import observation_spaces


@pytest.fixture(autouse=True)
def registry():
    before = dict(gymnasium.registry)
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


def pixels(*shape: int) -> spaces.Box:
    return spaces.Box(0, 255, shape, np.uint8)


class Drawn(gymnasium.Env):
    """Observations drawn from a space; every fourth step ends an episode."""

    action_space = spaces.Discrete(2)

    def __init__(self, observation_space: spaces.Space):
        self.observation_space = observation_space
        self.seen: list = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.seen.append(self.observation_space.sample())
        return self.seen[-1], {}

    def step(self, action):
        self.seen.append(self.observation_space.sample())
        return self.seen[-1], 0.0, len(self.seen) % 4 == 0, False, {}


def made(space: spaces.Space):
    """Return an environment of the engine, and the one inside it."""
    gymnasium.register("Drawn-v0", lambda: Drawn(space))
    env = make_env("gymnasium/Drawn-v0", 1, 0)
    return env, env._envs[0].unwrapped


@pytest.mark.parametrize(
    ("shape", "expected", "axes"),
    [
        ((8, 9, 3), (8, 9, 3), (0, 1, 2)),
        ((4, 8, 9), (8, 9, 4), (1, 2, 0)),
        ((8, 4, 9), (8, 4, 9), (0, 1, 2)),  # no channels' axis to be told: the last
        ((5, 5, 5), (5, 5, 5), (0, 1, 2)),
    ],
)
def test_images_stay_bytes_with_channels_last(shape, expected, axes):
    env, inner = made(pixels(*shape))
    assert env.spec.observation_shape == expected
    assert env.spec.pixels
    obs = env.reset()
    assert obs.dtype == np.uint8
    np.testing.assert_array_equal(obs[0], inner.seen[-1].transpose(axes))
    for _ in range(4):
        out = env.step(np.array([0]))
        assert out.final_obs.dtype == out.obs.dtype == np.uint8
        last, first = inner.seen[-2:] if out.terminated[0] else inner.seen[-1:] * 2
        np.testing.assert_array_equal(out.final_obs[0], last.transpose(axes))
        np.testing.assert_array_equal(out.obs[0], first.transpose(axes))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 255, (4,), np.uint8),  # Atari's memory: numbers, no pixels
        spaces.Box(0.0, 1.0, (8, 8, 3), np.float32),
        spaces.Box(0, 1, (8, 8, 3), np.uint8),
    ],
)
def test_other_numbers_are_not_scaled(space):
    env, inner = made(space)
    assert not env.spec.pixels
    assert env.spec.observation_shape == space.shape
    obs = env.reset()
    assert obs.dtype == np.float32
    np.testing.assert_array_equal(obs[0], inner.seen[-1])


def test_a_dict_is_flattened_by_its_sorted_keys():
    box, matrix = spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (2, 2))
    env, inner = made(spaces.Dict({"speed": box, "arm": matrix, "mode": spaces.Discrete(3)}))
    assert env.spec.observation_shape == (4 + 3 + 2,)
    obs, seen = env.reset()[0], inner.seen[-1]
    expected = [*seen["arm"].ravel(), *np.eye(3)[seen["mode"]], *seen["speed"]]
    np.testing.assert_array_equal(obs, np.array(expected, np.float32))
    out = [env.step(np.array([0])) for _ in range(4)]
    assert sum(step.terminated[0] for step in out) == 1


def test_a_dict_is_flattened_with_small_images_and_without_texts():
    parts = {"image": pixels(7, 7, 3), "direction": spaces.Discrete(4), "mission": spaces.Text(9)}
    env, inner = made(spaces.Dict(parts))
    assert env.spec.observation_shape == (4 + 7 * 7 * 3,)
    assert not env.spec.pixels
    obs, seen = env.reset()[0], inner.seen[-1]
    expected = [*np.eye(4)[seen["direction"]], *seen["image"].ravel()]
    np.testing.assert_array_equal(obs, np.array(expected, np.float32))


def test_a_tuple_is_flattened_in_its_order():
    env, inner = made(spaces.Tuple((spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (1,)))))
    np.testing.assert_array_equal(env.reset()[0], np.concatenate(inner.seen[-1]))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Dict(camera=pixels(64, 64, 3), arm=spaces.Box(-1, 1, (2,))),
        spaces.Dict(name=spaces.Text(3)),
        spaces.Dict(inner=spaces.Dict(name=spaces.Text(3)), arm=spaces.Box(-1, 1, (2,))),
        spaces.Tuple([spaces.Sequence(spaces.Discrete(2))]),
        spaces.Text(3),
    ],
)
def test_what_agents_do_not_take_is_one_line(space):
    message = r"Drawn-v0' has observations .*; supported: Box"
    with pytest.raises(UsageError, match=message) as caught:
        made(space)
    assert "\n" not in str(caught.value)


def test_three_short_axes_are_no_image():
    observation = observation_spaces.of_box(spaces.Box(-1, 1, (2, 9, 2)))
    assert observation == observation_spaces.Observation((2, 9, 2))
