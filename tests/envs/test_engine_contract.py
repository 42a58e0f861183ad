"""What every engine promises, in one suite: types, automatic reset, time limits, seeds, own arrays.

Engines for a device are stepped through the bridge, as host loops see them. Where each engine's
numbers come from is tested in its own file.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import pytest

from tiebreak import make_env, registry
from tiebreak.envs.base import HostEnv
from tiebreak.envs.bridge import BridgeEnv

NUM_ENVS, SEED, CHUNK = 2, 3, 16


class Case(NamedTuple):
    """A task, how many steps to take, and the time limit if only that ends its episodes."""

    task: str
    steps: int
    limit: int | None = None
    randomized: bool = True
    """Whether episodes begin in different states: in more than a few dozen."""


CASES = [
    Case("gymnasium/CartPole-v1", 80),
    Case("gymnasium/Pendulum-v1", 410, 200),
    Case("envpool/CartPole-v1", 80),
    Case("envpool/Hopper-v4", 80),
    Case("envpool/Pendulum-v1", 410, 200),
    Case("dm_control/pendulum-swingup", 1004, 1000),
    Case("dm_control/quadruped-escape", 10, 1000),
    Case("gymnax/CartPole-v1", 80),
    Case("gymnax/Pendulum-v1", 410, 200),
    Case("xminigrid/MiniGrid-EmptyRandom-5x5", 99, randomized=False),
    pytest.param(Case("craftax/Craftax-Classic-Symbolic-v1", 400), marks=pytest.mark.slow),
    Case("brax/fast", 1004, 1000, randomized=False),
    pytest.param(Case("playground/CartpoleBalance", 8, 3), marks=pytest.mark.slow),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.task)


def test_every_engine_has_a_case():
    cases = [getattr(case, "values", [case])[0] for case in CASES]
    missing = set(registry.ENGINES) - {case.task.partition("/")[0] for case in cases}
    assert not missing, f"CASES has no task of {sorted(missing)}"


class JaxRuntime:
    """As much of a runtime as the bridge needs."""

    device = "cpu"

    @staticmethod
    def from_dlpack(array):
        return array


class Rollout(NamedTuple):
    """Everything that one environment has returned; [T, N, …] per field of EnvStep."""

    first: np.ndarray
    obs: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    final_obs: np.ndarray
    overwritten: bool
    """Whether an array changed after it had been returned."""


@pytest.fixture(scope="module", autouse=True)
def _environments_end_with_the_file():
    yield
    for cached in (make, rollout):
        cached.cache_clear()


@cache
def make(case: Case, seed: int) -> HostEnv:
    """Return an environment that is stepped from the host; skip what is not installed."""
    row = registry.ENGINES[case.task.partition("/")[0]]
    if registry.missing_packages(row.packages):
        pytest.skip(f"{case.task} needs {', '.join(row.packages)}")
    env = make_env(case.task, NUM_ENVS, seed)
    if case.task.startswith("playground/"):
        assert (env.spec.action_size, env.spec.visible, env._limit_steps) == (1, None, 1000)
        env._limit_steps = 3
    return env if isinstance(env, HostEnv) else BridgeEnv(env, JaxRuntime, seed, CHUNK)


def actions_of(env: HostEnv, steps: int) -> np.ndarray:
    """Return random actions within the bounds, [T, N] or [T, N, A]."""
    rng = np.random.default_rng(0)
    if env.spec.discrete:
        return rng.integers(env.spec.num_actions, size=(steps, NUM_ENVS))
    low, high = env.spec.bounds
    return rng.uniform(low, high, (steps, NUM_ENVS, len(low))).astype(np.float32)


def run(env: HostEnv, steps: int) -> Rollout:
    """Reset, take random steps, and copy every array when it is returned."""
    first = env.reset()
    returned, copies = [first], [np.array(first)]
    for action in actions_of(env, steps):
        for array in env.step(action):
            returned.append(array)
            copies.append(np.array(array))
    overwritten = any(
        not np.array_equal(array, copy) for array, copy in zip(returned, copies, strict=True)
    )
    fields = [np.stack(copies[1 + i :: 5]) for i in range(5)]
    return Rollout(copies[0], *fields, overwritten)


@cache
def rollout(case: Case) -> Rollout:
    """Return the run of a case that the tests share."""
    return run(make(case, SEED), case.steps)


@every_case
def test_steps_have_the_documented_shapes_and_types(case):
    env, steps = make(case, SEED), rollout(case)
    shape = (NUM_ENVS, *env.spec.observation_shape)
    assert (steps.first.shape, steps.first.dtype) == (shape, np.float32)
    for obs in (steps.obs, steps.final_obs):
        assert (obs.shape, obs.dtype) == ((case.steps, *shape), np.float32)
        assert np.isfinite(obs).all()
    assert (steps.reward.shape, steps.reward.dtype) == ((case.steps, NUM_ENVS), np.float32)
    assert np.isfinite(steps.reward).all()
    for end in (steps.terminated, steps.truncated):
        assert (end.shape, end.dtype) == ((case.steps, NUM_ENVS), np.bool_)
    failures = env.failures()
    assert failures is None or not np.any(failures)


@every_case
def test_an_environment_resets_within_the_step_that_ends_its_episode(case):
    steps = rollout(case)
    over = steps.terminated | steps.truncated
    assert not (steps.terminated & steps.truncated).any()
    assert over.any() or (case.limit or 0) > case.steps
    np.testing.assert_array_equal(steps.obs[~over], steps.final_obs[~over])
    changed = steps.obs[over] != steps.final_obs[over]
    assert changed.any(axis=tuple(range(1, changed.ndim))).all()
    if case.randomized:
        begins = np.concatenate([steps.first, steps.obs[over]])
        assert len(np.unique(begins, axis=0)) == len(begins), "two episodes begin alike"


@every_case
def test_time_limits_truncate(case):
    steps = rollout(case)
    if case.limit is None:
        assert steps.terminated.any(), "episodes end by themselves"
        assert not steps.truncated.any(), "no limit is reached"
    else:
        at_limit = np.arange(case.steps) % case.limit == case.limit - 1
        expected = np.repeat(at_limit[:, None], NUM_ENVS, axis=1)
        np.testing.assert_array_equal(steps.truncated, expected)
        assert not steps.terminated.any()


@every_case
def test_a_seed_is_a_trajectory(case):
    first = rollout(case)
    again, same = make(case, SEED), make.__wrapped__(case, SEED)
    for env in (again, same):
        short = run(env, min(case.steps, 80))
        for ours, theirs in zip(short[:-1], first[:-1], strict=True):
            np.testing.assert_array_equal(ours, theirs[: len(ours)])
    if case.randomized:
        assert not np.array_equal(first.first, make.__wrapped__(case, SEED + 1).reset())
        assert not np.array_equal(first.first[0], first.first[1])


@every_case
def test_results_are_not_overwritten_by_later_steps(case):
    assert not rollout(case).overwritten
