"""The envpool engine against Gymnasium's own environments, one step at a time from its states."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import gymnasium
import numpy as np
import pytest
from envpool import registration

from tiebreak import make_env, registry
from tiebreak.core.errors import MissingDependency, UsageError
from tiebreak.envs import envpool_engine, gymnasium_engine


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # Gymnasium's MuJoCo leaves a log of warnings behind


def place(name, inner, obs):
    """Into the state of an observation; where HalfCheetah is changes nothing."""
    if name == "HalfCheetah-v4":
        inner.set_state(np.concatenate([[0.0], obs[:8]]), obs[8:])
    elif name == "Pendulum-v1":
        inner.state = np.array([np.arctan2(obs[1], obs[0]), obs[2]])
    else:
        inner.state, inner.steps_beyond_terminated = tuple(obs), None


class OneStep:
    """Gymnasium's answer to one action, in a state that is read off an observation."""

    def __init__(self, name):
        self.env, self.name = gymnasium.make(name), name
        self.env.reset()

    def __call__(self, obs, action):
        self.env.unwrapped.reset()  # forgets what the solver of MuJoCo starts from
        place(self.name, self.env.unwrapped, obs.astype(np.float64))
        return self.env.unwrapped.step(action)[:3]


class Recorder:
    """A pool that keeps its observations as they were: HalfCheetah's contacts turn a rounding of
    1e-7 in a state into 1e-4 after a step.
    """

    def __init__(self, pool):
        self.pool, self.obs, self.final_obs = pool, None, None

    def reset(self, ids=None):
        first, info = self.pool.reset(ids)
        self.obs = first.copy() if ids is None else self.obs
        self.obs[info["env_id"]] = first
        return first, info

    def step(self, action):
        out = self.pool.step(action)
        self.obs, self.final_obs = out[0].copy(), out[0].copy()
        return out


def balance(obs):
    """Keeps CartPole upright for ever."""
    return (3 * obs[:, 2] + obs[:, 3] > 0).astype(np.int64)


def check_steps(name, num_steps, act):
    """Every step is Gymnasium's from the observation before it, resets or not; [T, N] of ends."""
    env, one_step = make_env(f"envpool/{name}", 3, seed=4), OneStep(name)
    env._pool = pool = Recorder(env._pool)
    obs, ends = env.reset(), []
    for t in range(num_steps):
        before, action = pool.obs, act(obs, t)
        out = env.step(action)
        for i in range(3):
            final_obs, reward, terminated = one_step(before[i], action[i])
            np.testing.assert_allclose(pool.final_obs[i], final_obs, atol=1e-5, rtol=1e-5)
            np.testing.assert_allclose(out.reward[i], reward, atol=1e-5, rtol=1e-5)
            assert out.terminated[i] == terminated
        np.testing.assert_array_equal(out.final_obs, pool.final_obs.astype(np.float32))
        np.testing.assert_array_equal(out.obs, pool.obs.astype(np.float32))
        over = out.terminated | out.truncated
        assert not (out.terminated & out.truncated).any()
        np.testing.assert_array_equal(out.obs[~over], out.final_obs[~over])
        assert (out.obs[over] != out.final_obs[over]).any(axis=1).all()
        ends.append((out.terminated, out.truncated))
        obs = out.obs
    return tuple(np.stack(field) for field in zip(*ends, strict=True))


def test_cartpole_ends_are_told_apart_and_no_step_is_lost():
    luck = np.random.default_rng(0)

    def act(obs, t):
        return np.array([balance(obs)[0], luck.integers(2), 1])

    terminated, truncated = check_steps("CartPole-v1", 510, act)
    assert np.flatnonzero(truncated[:, 0]).tolist() == [499]
    assert not truncated[:, 1:].any()
    assert not terminated[:, 0].any()
    often = terminated[:, 1:].sum(axis=0)
    assert (often > 5).all()
    assert often[0] != often[1]
    assert np.abs(np.diff(np.flatnonzero(terminated[:, 2]))).max() < 12


@pytest.mark.parametrize(("name", "limit"), [("Pendulum-v1", 200), ("HalfCheetah-v4", 1000)])
def test_time_limits_truncate_and_no_step_is_lost(name, limit):
    luck, size = np.random.default_rng(1), len(make_env(f"envpool/{name}").spec.action_low)

    def act(obs, t):
        return luck.uniform(-1, 1, (3, size)).astype(np.float32)

    terminated, truncated = check_steps(name, 2 * limit + 3, act)
    assert not terminated.any()
    assert (np.flatnonzero(truncated.all(axis=1)) == [limit - 1, 2 * limit - 1]).all()
    assert truncated.sum() == 6


def first_end():
    """(step, terminated, truncated) of the first end of CartPole, pushed to the right."""
    env = make_env("envpool/CartPole-v1", 1, 0)
    env.reset()
    for t in range(1, 99):
        out = env.step(np.ones(1, np.int64))
        if out.terminated[0] or out.truncated[0]:
            return t, bool(out.terminated[0]), bool(out.truncated[0])
    raise AssertionError("it does not fall")


def test_an_episode_that_ends_itself_at_the_limit_has_terminated(monkeypatch):
    fell, *_ = first_end()
    *where, options = registration.registry.specs["CartPole-v1"]
    for limit, expected in ((fell, (fell, True, False)), (fell - 1, (fell - 1, False, True))):
        changed = (*where, {**options, "max_episode_steps": limit})
        monkeypatch.setitem(registration.registry.specs, "CartPole-v1", changed)
        assert first_end() == expected


def test_more_environments_leave_the_first_as_they_are():
    few, many = (make_env("envpool/Ant-v4", n, 2) for n in (2, 5))
    np.testing.assert_array_equal(few.reset(), many.reset()[:2])
    action = np.full((5, 8), 0.3, np.float32)
    for _ in range(20):
        a, b = few.step(action[:2]), many.step(action)
        np.testing.assert_array_equal(a.final_obs, b.final_obs[:2])


@pytest.mark.parametrize("name", envpool_engine.tasks())
def test_every_task_keeps_the_contract(name):
    env = make_env(f"envpool/{name}", 2, 0)
    spec, obs = env.spec, env.reset()
    kind = np.uint8 if len(spec.observation_shape) == 3 else np.float32  # images stay bytes
    low, high = (np.array(bound, np.float32) for bound in spec.bounds)
    action = np.zeros(2, np.int64) if spec.discrete else np.stack([low, high])
    assert obs.shape == (2, *spec.observation_shape)
    for out in (env.step(action) for _ in range(5)):
        for field in (out.obs, out.final_obs):
            assert (field.shape, field.dtype) == (obs.shape, kind)
            assert np.isfinite(field).all()
        kinds = [(field.shape, field.dtype) for field in out[1:4]]
        assert kinds == [((2,), np.float32), ((2,), np.bool_), ((2,), np.bool_)]
    env.close()


THEIRS = {*envpool_engine.tasks()} & {*gymnasium_engine.tasks()} - {"Pusher-v4"}
"""Pusher-v4 is Gymnasium's only with an old MuJoCo."""


@pytest.mark.parametrize("name", sorted(THEIRS))
def test_spaces_and_limit_are_gymnasium_s(name):
    ours, theirs = make_env(f"envpool/{name}"), make_env(f"gymnasium/{name}")
    assert ours.spec == theirs.spec
    assert ours._limit == gymnasium.spec(name).max_episode_steps


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("HalfCheeta-v4", "unknown task .* did you mean 'envpool/HalfCheetah-v4'.*--tasks envpool"),
        ("BigfishEasy-v0", "'envpool/BigfishEasy-v0' is of a kind .* not supported.*control and"),
    ],
)
def test_wrong_names_are_one_clear_line(name, message):
    with pytest.raises(UsageError, match=message) as caught:
        make_env(f"envpool/{name}", 2, 0)
    assert "\n" not in str(caught.value)


def test_a_missing_package_comes_with_its_extra(monkeypatch):
    monkeypatch.setattr(registry, "missing_packages", list)
    with pytest.raises(MissingDependency, match=r"engine 'envpool' needs envpool, .*\[envpool\]'"):
        make_env("envpool/HalfCheetah-v4")


def test_it_works_behind_the_fence_and_says_nothing():
    program = """
        import sys
        import numpy as np
        from tiebreak.core import import_guard
        import_guard.install(["envpool"])
        from tiebreak.envs.base import make_env
        env = make_env("envpool/HalfCheetah-v4", 2, 0)
        env.reset()
        env.step(np.zeros((2, 6), np.float32))
        env = make_env("envpool/CartPole-v1", 2, 0)
        env.reset()
        assert not {"jax", "torch", "tensorflow"} & set(sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_atari_is_bytes_with_channels_last_clipped_and_ends_with_a_life():
    env = make_env("envpool/Breakout-v5", 2, seed=0)
    assert env.spec.observation_shape == (84, 84, 4)
    assert env.spec.pixels
    obs = env.reset()
    assert obs.dtype == np.uint8
    lives, rewards, ends = 5, set(), 0
    for t in range(400):
        before = env._pool
        out = env.step(np.full(2, (1, 2, 3)[t % 3]))  # fire, right, left
        assert env._pool is before
        rewards |= set(out.reward.tolist())
        ended = out.terminated | out.truncated
        ends += ended[0]
        # The last of the four frames that are stacked goes on where the one before it was.
        stacked = out.final_obs[~ended][..., :3]
        np.testing.assert_array_equal(stacked, obs[~ended][..., 1:])
        obs = out.obs
    assert rewards <= {-1.0, 0.0, 1.0}
    assert ends >= lives - 1


def test_evaluation_plays_whole_games_of_atari_for_their_own_scores():
    steps = {}
    for evaluating in (False, True):
        env = make_env("envpool/Breakout-v5", 1, seed=0, evaluating=evaluating)
        env.reset()
        steps[evaluating] = next(
            t for t in range(2000) if env.step(np.array([t % 4])).terminated[0]
        )
    assert steps[True] > 2 * steps[False]


def test_evaluation_begins_every_life_of_atari_so_that_a_game_ends_whatever_is_played():
    """Breakout's ball waits for FIRE: who never learned to press it would wait to the limit."""
    env = envpool_engine.make("Breakout-v5", 1, seed=0, evaluating=True)
    env.reset()
    outs = [env.step(np.zeros(1, np.int64)) for _ in range(500)]
    end = next(t for t, out in enumerate(outs) if out.terminated[0])
    lives = [t for t, out in enumerate(outs) if not np.array_equal(out.obs, out.final_obs)]
    assert len([t for t in lives if t < end]) == 4
    assert end > 50
    assert not any(out.truncated[0] for out in outs)


def test_a_new_game_of_atari_begins_at_the_time_limit(monkeypatch):
    *where, options = registration.registry.specs["Pong-v5"]
    changed = (*where, {**options, "max_episode_steps": 10})
    monkeypatch.setitem(registration.registry.specs, "Pong-v5", changed)
    for evaluating in (False, True):
        env = envpool_engine.make("Pong-v5", 1, seed=0, evaluating=evaluating)
        env.reset()
        outs = [env.step(np.zeros(1, np.int64)) for _ in range(25)]
        assert np.flatnonzero([out.truncated[0] for out in outs]).tolist() == [9, 19]
        assert not any(out.terminated[0] for out in outs)
