"""The brax engine: its own smallest task step by step, a real one against brax's `step`."""

from __future__ import annotations

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("brax")

from tiebreak import make_env
from tiebreak.core.errors import UsageError
from tiebreak.envs import brax_engine

DT = 0.02
"""Of brax/fast: as long as an action is positive, speed grows by DT in each step of DT."""


def rollout(env, actions):
    key = jax.random.key(7)
    state, first = env.reset(key)
    noise = env.draw(key, len(actions))
    return first, jax.lax.scan(lambda s, x: env.step(s, *x), state, (actions, noise))[1]


def test_a_task_runs_into_its_limit_and_on():
    env, steps = make_env("brax/fast", 2), brax_engine.LIMIT_STEPS + 5
    assert (env.spec.observation_shape, env.spec.bounds) == ((2,), ((-1.0,), (1.0,)))
    first, seen = jax.jit(lambda a: rollout(env, a))(jnp.ones((steps, 2, 1)))
    np.testing.assert_array_equal(first, np.zeros((2, 2)))
    limit = np.arange(steps) == brax_engine.LIMIT_STEPS - 1
    np.testing.assert_array_equal(seen.truncated, np.stack([limit, limit], axis=1))
    assert not seen.terminated.any()
    speed = DT * (1 + np.arange(steps) % brax_engine.LIMIT_STEPS)
    np.testing.assert_allclose(seen.final_obs[:, 0, 1], speed, rtol=1e-3)
    np.testing.assert_array_equal(seen.obs[limit], np.zeros((1, 2, 2)))
    np.testing.assert_array_equal(seen.obs[~limit], seen.final_obs[~limit])


@pytest.mark.slow
def test_a_step_that_ends_nothing_is_brax_s_own():
    from brax import envs

    env, theirs = make_env("brax/ant@spring", 2), envs.get_environment("ant", backend="spring")
    state, obs = jax.jit(env.reset)(jax.random.key(1))
    noise = jax.tree.map(lambda x: x[0], env.draw(jax.random.key(2), 1))
    action = jnp.linspace(-1, 1, 2 * env.spec.action_size).reshape(2, -1)
    after, seen = jax.jit(env.step)(state, action, noise)
    expected = jax.jit(jax.vmap(theirs.step))(state.sim, action)
    assert obs.shape == (2, *env.spec.observation_shape)
    assert not (seen.terminated | seen.truncated).any()
    np.testing.assert_allclose(seen.obs, expected.obs, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(seen.reward, expected.reward, rtol=1e-4, atol=1e-5)
    assert jax.tree.structure(after.sim) == jax.tree.structure(state.sim)
    assert (np.asarray(seen.obs)[0] != np.asarray(seen.obs)[1]).any()


def test_environments_are_made_once():
    assert make_env("brax/fast")._env is make_env("brax/fast@generalized", 3)._env


def test_tasks_are_those_of_brax():
    assert {"ant", "halfcheetah", "humanoid"} <= set(brax_engine.tasks())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("antt", r"unknown task 'brax/antt'; did you mean 'brax/ant'"),
        ("ant@sprng", r"unknown physics of 'brax/ant' 'sprng'; did you mean 'spring'"),
        ("swimmer@spring", r"'brax/swimmer' cannot be simulated with 'spring': Unsupported"),
    ],
)
def test_wrong_names_are_one_clear_line(name, message):
    with pytest.raises(UsageError, match=message):
        make_env(f"brax/{name}")


def test_a_task_that_lacks_a_kind_of_physics_says_so(monkeypatch):
    def refuse(*_, **__):
        raise NotImplementedError("not there yet")

    monkeypatch.setattr(brax_engine.envs, "get_environment", refuse)
    with pytest.raises(UsageError, match=r"'brax/fast' cannot be simulated with 'mjx': not there"):
        brax_engine._load.__wrapped__("fast", "mjx")


@pytest.mark.slow
def test_nothing_is_printed_where_warp_is_missing():
    code = "import sys; sys.modules['warp'] = None; import tiebreak.envs.brax_engine"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
