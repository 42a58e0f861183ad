"""The dm_control engine against dm_control itself, one environment at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from tiebreak import make_env, registry
from tiebreak.core.errors import MissingDependency, UsageError
from tiebreak.core.seeding import derive
from tiebreak.envs import dm_control_engine
from tiebreak.envs.dm_control_engine import suite


def flat(now):
    """The parts by the names of observation_spec, in its order."""
    return np.concatenate([np.asarray(x, np.float32).reshape(-1) for x in now.observation.values()])


def by_hand(domain, task, num_envs, seed, actions):
    """dm_control's own functions only, as EnvStep's documentation says it: [T, N] per field."""
    columns = []
    for i in range(num_envs):
        env = suite.load(domain, task, task_kwargs={"random": derive(seed, "env", i)})
        rows, first = [], flat(env.reset())
        for action in actions[:, i]:
            now = env.step(action.astype(np.float64))
            obs, over = flat(now), now.last()
            next_obs = flat(env.reset()) if over else obs
            ended = over and now.discount == 0, over and now.discount != 0
            rows.append((next_obs, np.float32(now.reward), *ended, obs))
        columns.append((first, *(np.stack(field) for field in zip(*rows, strict=True))))
    first, *fields = zip(*columns, strict=True)
    return np.stack(first), [np.stack(field, axis=1) for field in fields]


def rollout(env, actions):
    first = env.reset()
    steps = [env.step(action) for action in actions]
    return first, [np.stack(field) for field in zip(*steps, strict=True)]


def luck(env, num_steps, seed=0):
    low, high = env.spec.bounds
    shape = (num_steps, env.num_envs, len(low))
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def assert_same(ours, theirs):
    np.testing.assert_array_equal(ours[0], theirs[0])
    for a, b in zip(ours[1], theirs[1], strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["cartpole-swingup", "pendulum-swingup"])
def test_episodes_of_1000_steps_end_by_truncation(name):
    env = make_env(f"dm_control/{name}", 2, seed=5)
    actions = luck(env, 1004)
    first, (obs, reward, terminated, truncated, final_obs) = ours = rollout(env, actions)
    assert_same(ours, by_hand(*name.split("-"), 2, 5, actions))
    assert not terminated.any()
    assert np.argwhere(truncated).tolist() == [[999, 0], [999, 1]]
    assert (obs[999] != final_obs[999]).any(axis=1).all()
    np.testing.assert_array_equal(np.delete(obs, 999, 0), np.delete(final_obs, 999, 0))
    assert (first != obs[999]).any(axis=1).all(), "every episode begins with new random numbers"
    assert ((reward >= 0) & (reward <= 1)).all()


def test_a_discount_of_0_terminates_and_another_truncates():
    env = make_env("dm_control/cartpole-balance", 3, 0)
    for inner, step, discount in zip(env._envs, (3, 5, 5), (0.0, 0.0, 0.5), strict=True):
        inner.task.get_termination = lambda physics, end=step * 0.01 - 1e-9, discount=discount: (
            discount if physics.time() >= end else None
        )
    _, (obs, _, terminated, truncated, final_obs) = rollout(env, luck(env, 7))
    assert np.argwhere(terminated).tolist() == [[2, 0], [4, 1], [5, 0]]
    assert np.argwhere(truncated).tolist() == [[4, 2]]
    over = terminated | truncated
    assert (obs[over] != final_obs[over]).any(axis=1).all()
    np.testing.assert_array_equal(obs[~over], final_obs[~over])


@pytest.mark.parametrize("name", ["finger-turn_easy", "manipulator-bring_ball"])
def test_observations_are_the_suite_s_parts_in_its_order(name):
    domain, task = name.split("-")
    env = make_env(f"dm_control/{name}", 1, 7)
    theirs = suite.load(domain, task, task_kwargs={"random": derive(7, "env", 0)})
    names, parts = list(theirs.observation_spec()), theirs.reset().observation
    assert list(parts) == names
    assert {np.ndim(part) for part in parts.values()} & {0, 2}, "only vectors: too easy"
    row, start = env.reset()[0], 0
    for part in parts.values():
        end = start + np.size(part)
        np.testing.assert_array_equal(row[start:end], np.float32(part).ravel())
        start = end
    assert (start,) == row.shape == env.spec.observation_shape


def every_task():
    """One task of each domain always, the others when they are drawn."""
    seen = set()
    for name in dm_control_engine.tasks():
        domain = name.split("-")[0]
        yield pytest.param(name, marks=[pytest.mark.slow] if domain in seen else [])
        seen.add(domain)


@pytest.mark.parametrize("name", every_task())
def test_every_task_keeps_the_contract(name):
    env = make_env(f"dm_control/{name}", 2, 0)
    obs = env.reset()
    assert obs.shape == (2, *env.spec.observation_shape)
    assert [inner._step_limit for inner in env._envs] == [1000, 1000]
    bounds = env._envs[0].action_spec()
    assert env.spec.action_low == tuple(np.float32(bounds.minimum).tolist())
    assert env.spec.action_high == tuple(np.float32(bounds.maximum).tolist())
    for out in map(env.step, luck(env, 3)):
        for field in (out.obs, out.final_obs):
            assert (field.shape, field.dtype) == (obs.shape, np.float32)
            assert np.isfinite(field).all()
        kinds = [(field.shape, field.dtype) for field in out[1:4]]
        assert kinds == [((2,), np.float32), ((2,), np.bool_), ((2,), np.bool_)]
    env.close()


def test_the_whole_suite_is_there():
    left_out = {f"{domain}-{task}" for domain, task in suite.ALL_TASKS} - set(
        dm_control_engine.tasks()
    )
    assert left_out == {"lqr-lqr_2_1", "lqr-lqr_6_2"}
    for name in left_out:
        spec = suite.load(*name.split("-")).action_spec()
        assert (spec.maximum == 1e10).all(), "bounded by now: take it in"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "cartpole-swing",
            "unknown task .* did you mean 'dm_control/cartpole-swingup'.*--tasks dm_",
        ),
        ("cartpole", "unknown task 'dm_control/cartpole'; did you mean 'dm_control/cartpole-"),
        ("cartpole/swingup", "did you mean 'dm_control/cartpole-swingup'"),
        ("lqr-lqr_2_1", "'dm_control/lqr-lqr_2_1' has unbounded actions; supported: bounded"),
    ],
)
def test_wrong_names_are_one_clear_line(name, message):
    with pytest.raises(UsageError, match=message) as caught:
        make_env(f"dm_control/{name}", 2, 0)
    assert "\n" not in str(caught.value)


def test_a_missing_package_comes_with_its_extra(monkeypatch):
    monkeypatch.setattr(registry, "missing_packages", list)
    message = r"engine 'dm_control' needs dm_control, .*\[dm-control\]'"
    with pytest.raises(MissingDependency, match=message):
        make_env("dm_control/cartpole-swingup")


def test_no_display_is_needed_and_nothing_is_said():
    program = """
        import os, sys
        import numpy as np
        from tiebreak.core import import_guard
        import_guard.install(["dm_control"])
        from tiebreak.envs.base import make_env
        for name, size in (("cheetah-run", 6), ("quadruped-escape", 12)):
            env = make_env(f"dm_control/{name}", 1, 0)
            env.reset()
            env.step(np.zeros((1, size), np.float32))
        assert "MUJOCO_GL" not in os.environ
        assert not {"jax", "torch", "tensorflow", "gymnasium", "glfw"} & set(sys.modules)
    """
    hidden = ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={k: v for k, v in os.environ.items() if k not in hidden},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
