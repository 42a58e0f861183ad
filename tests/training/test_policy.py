"""Loaded policies act in every framework as evaluation does, on one observation or on many."""

from __future__ import annotations

import numpy as np
import pytest

import tiebreak
from tiebreak import registry
from tiebreak.core.errors import UsageError
from tiebreak.core.seeding import derive
from tiebreak.core.types import EnvSpec
from tiebreak.training import policy_files

TASKS = {"discrete": "gymnasium/CartPole-v1", "box": "gymnasium/Pendulum-v1"}
SPECS = {
    "discrete": EnvSpec.make(observation_shape=(4,), num_actions=2),
    "box": EnvSpec.make(observation_shape=(3,), action_low=(-2.0,), action_high=(2.0,)),
}


def save(folder, actions="discrete", algorithm="ppo", **more):
    """Store a policy with initial weights, and statistics of observations that are not 0 and 1."""
    spec = SPECS[actions]
    config = registry.reference_config(algorithm, spec)
    config = type(config)(**{**vars(config), "normalize_obs": True})
    arrays = registry.data_module(algorithm).initial_weights(spec, config, 0)
    arrays["obs_moments/mean"] = np.linspace(0.1, 0.4, spec.observation_size)
    more = {"task": TASKS[actions], "framework": "torch", "seed": 3, **more}
    more = {name: value for name, value in more.items() if value is not None}
    policy_files.save_policy(folder, arrays, algorithm, spec, config, **more)
    return folder


@pytest.mark.parametrize("actions", SPECS)
def test_acting_by_hand_is_the_evaluation(actions, tmp_path):
    policy = tiebreak.load_policy(save(tmp_path, actions))
    env = tiebreak.make_env(TASKS[actions], 2, derive(3, "evaluation"))
    obs, total, running = env.reset(), np.zeros(2), np.ones(2, bool)
    while running.any():
        out = env.step(policy.act(obs))
        total += np.where(running, out.reward, 0.0)
        running &= ~(out.terminated | out.truncated)
        obs = out.obs
    env.close()
    found = tiebreak.evaluate(tmp_path, mode="eager", episodes=2)
    assert found.returns == pytest.approx(total.tolist(), abs=1e-4)


@pytest.mark.parametrize("actions", SPECS)
def test_one_observation_is_a_batch_of_one_in_every_framework(actions, tmp_path):
    save(tmp_path, actions)
    obs = np.random.default_rng(0).normal(size=(5, *SPECS[actions].observation_shape))
    expected = tiebreak.load_policy(tmp_path).act(obs)
    for framework in ("linen", "tensorflow"):
        if registry.missing_packages(registry.FRAMEWORKS[framework].packages):
            continue
        policy = tiebreak.load_policy(tmp_path, framework)
        assert np.allclose(policy.act(obs), expected, atol=1e-5)
        one = policy.act(obs[2].tolist())
        assert one.shape == expected[2].shape
        assert np.allclose(one, expected[2], atol=1e-5)


def test_samples_are_of_the_policy_s_distribution_and_have_a_seed(tmp_path):
    policy = tiebreak.load_policy(save(tmp_path))
    obs = np.zeros((400, 4))
    first, again, other = (policy.act(obs, deterministic=False, rng=seed) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()
    assert set(first) == {0, 1}
    assert len(set(policy.act(obs))) == 1
    assert 0.3 < first.mean() < 0.7  # an untrained policy is nearly uniform


def test_what_cannot_be_is_said(tmp_path):
    policy = tiebreak.load_policy(save(tmp_path))
    assert repr(policy) == "<policy of ppo for gymnasium/CartPole-v1, in torch eager>"
    for obs in (np.zeros(3), np.zeros((2, 3)), np.zeros((0, 4)), np.zeros((1, 1, 4))):
        with pytest.raises(UsageError, match=r"have the shape \(4,\), batches of them"):
            policy.act(obs)
    with pytest.raises(UsageError, match="observations must be numbers"):
        policy.act(["a", "b"])
    with pytest.raises(UsageError, match="unknown framework 'torhc'; did you mean 'torch'"):
        tiebreak.load_policy(tmp_path, "torhc")
    with pytest.raises(UsageError, match="names no framework: choose one"):
        tiebreak.load_policy(save(tmp_path, framework=None))


def test_a_policy_of_one_action_has_no_samples(tmp_path):
    policy = tiebreak.load_policy(save(tmp_path, "discrete", "dqn"))
    with pytest.raises(UsageError, match="a policy of dqn has one action for each observation"):
        policy.act(np.zeros(4), deterministic=False)
    assert policy.act(np.zeros(4)) in (0, 1)
