"""The oracle itself, against sources that share nothing with it: differences, SciPy, hand sums."""

from __future__ import annotations

import numpy as np
from scipy import stats
from verify.oracle_inputs import on_policy_inputs

from tiebreak.algorithms.ppo import ppo_numpy as oracle
from tiebreak.algorithms.ppo.config import Config
from tiebreak.algorithms.ppo.data import Minibatch, Rollout
from tiebreak.core.types import EnvSpec
from tiebreak.frameworks.numpy import ops as numpy_ops
from tiebreak.verify import case as case_data
from tiebreak.verify import ppo_cases as cases

ACTIONS = ("discrete", "continuous")


def test_both_sides_of_every_clip_are_visited():
    """Otherwise test_oracle_gradients.py would prove less than it seems to."""
    seen = []
    for seed in range(6):
        case = cases.draw(seed, "discrete")
        weights, rows = on_policy_inputs(case)
        terms, _ = oracle.gradients(case.spec, case.config, weights, rows)
        value = oracle.forward(case.spec, case.config, weights, rows.obs)[1]
        far = np.abs(value - rows.value) > case.config.clip
        seen.append((terms.clip_fraction, far.mean()))
    low, high = np.min(seen, axis=0), np.max(seen, axis=0)
    assert (low < 1.0).all()
    assert (high > 0.0).all()
    assert np.mean(seen) > 0.2


def test_log_prob_and_entropy_match_scipy():
    rng = np.random.default_rng(0)
    out = rng.standard_normal((6, 4))
    p = np.exp(out) / np.exp(out).sum(axis=1, keepdims=True)
    spec, action = EnvSpec.make(observation_shape=(1,), num_actions=4), rng.integers(4, size=6)
    log_prob, entropy = oracle.log_prob_entropy(spec, {}, out, action)
    np.testing.assert_allclose(log_prob, np.log(p[np.arange(6), action]), rtol=1e-13)
    np.testing.assert_allclose(entropy, [stats.entropy(row) for row in p], rtol=1e-13)

    spec = EnvSpec.make(observation_shape=(1,), action_low=[-1] * 4, action_high=[1] * 4)
    log_std, action = rng.standard_normal(4), rng.standard_normal((6, 4))
    log_prob, entropy = oracle.log_prob_entropy(spec, {"actor/log_std": log_std}, out, action)
    normal = stats.norm(out, np.exp(log_std))
    np.testing.assert_allclose(log_prob, normal.logpdf(action).sum(axis=1), rtol=1e-13)
    np.testing.assert_allclose(entropy, normal.entropy().sum(axis=1), rtol=1e-13)


def one_env(reward, value, terminated, truncated) -> Rollout:
    """A rollout of one environment, its observations zero."""
    column = [np.asarray(x)[:, None] for x in (reward, value, terminated, truncated)]
    obs = np.zeros((len(reward), 1, 1))
    zero = np.zeros((len(reward), 1))
    return Rollout(obs, zero, zero, column[1], column[0], column[2], column[3], obs)


def test_advantages_by_hand():
    """γ = 1/2, λ = 1/2, V(next) = 8 everywhere; step 1 terminates, step 2 is truncated."""
    rollout = one_env(
        [1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 1.0, 1.0],
        [False, True, False, False], [False, False, True, False],
    )  # fmt: skip
    config = Config(num_envs=1, num_steps=4, gamma=0.5, gae_lambda=0.5)
    got = oracle.advantages(config, rollout, rollout.reward, np.full((4, 1), 8.0))
    # δ = 1+4−1, 2−1, 3+4−1, 4+4−1; A_0 = 4 + ¼·1, A_1 and A_2 end their episodes
    np.testing.assert_allclose(got[:, 0], [4.25, 1.0, 6.0, 7.0], rtol=0, atol=1e-15)
    config = Config(num_envs=1, num_steps=4, gamma=0.5, gae_lambda=0.5, truncation="terminal")
    got = oracle.advantages(config, rollout, rollout.reward, np.full((4, 1), 8.0))
    np.testing.assert_allclose(got[:, 0], [4.25, 1.0, 2.0, 7.0], rtol=0, atol=1e-15)


def test_rewards_are_scaled_by_the_std_of_the_discounted_return():
    config = Config(num_envs=1, num_steps=3, gamma=0.5)
    rollout = one_env([1.0, 2.0, 4.0], [0.0] * 3, [False, True, False], [False] * 3)
    state = {
        "running_return": np.array([2.0]),
        "return_moments/count": np.asarray(0.0),
        "return_moments/mean": np.asarray(0.0),
        "return_moments/var": np.asarray(1.0),
    }
    reward, changed = oracle.scale_rewards(config, state, rollout)
    returns = np.array([2.0, 3.0, 4.0])  # 1 + ½·2, 2 + ½·2, 4 + 0: the episode before had ended
    np.testing.assert_allclose(reward[:, 0], rollout.reward[:, 0] / np.sqrt(returns.var() + 1e-8))
    assert changed["running_return"] == 4.0
    assert changed["return_moments/mean"] == 3.0


def test_merged_moments_are_those_of_all_samples():
    x = np.random.default_rng(0).standard_normal((50, 3))
    moments = {
        "m/count": np.asarray(0.0), "m/mean": np.zeros(3), "m/var": np.ones(3),
    }  # fmt: skip
    for part in np.split(x, [7, 20]):
        moments = numpy_ops.merge_stats(moments, "m", part)
    np.testing.assert_allclose(moments["m/mean"], x.mean(axis=0), atol=1e-15)
    np.testing.assert_allclose(moments["m/var"], x.var(axis=0), rtol=1e-14)
    assert moments["m/count"] == 50.0


def test_actions_reach_exactly_the_bounds_and_zero_noise_is_greedy():
    spec = EnvSpec.make(observation_shape=(1,), action_low=[-0.4, 0], action_high=[0.4, 10])
    case = case_data.Case("ppo", spec, Config(num_envs=3, num_steps=4, hidden_sizes=(4,)), 0)
    weights = numpy_ops.to_float64(case_data.perturbed_weights(case))
    obs = np.zeros((3, 1))
    noise = np.array([[0.0, 0.0], [1e3, 1e3], [-1e3, -1e3]])
    act = oracle.act(spec, case.config, weights, obs, noise)
    np.testing.assert_array_equal(act.action[1:], [[0.4, 10.0], [-0.4, 0.0]])
    np.testing.assert_array_equal(
        act.raw_action[0], oracle.forward(case.spec, case.config, weights, obs)[0][0]
    )


def test_adam_and_clip_by_hand():
    config = Config(learning_rate=0.1, anneal_lr=False, max_grad_norm=1.0, adam_eps=0.5)
    zero = {"actor/a": np.zeros(2)}
    state = {**zero, **{f"adam/{m}/actor/a": np.zeros(2) for m in ("mu", "nu")}}
    state["adam/count"] = np.asarray(0, np.int32)
    out, norm = oracle.optimize(config, state, {"actor/a": np.array([3.0, 4.0])})
    assert norm == 5.0
    g = np.array([0.6, 0.8])  # after clipping; bias correction undoes 1 − β at the first step
    np.testing.assert_allclose(out["actor/a"], -0.1 * g / (g + 0.5), rtol=1e-12)
    assert out["adam/count"] == 1


def test_learning_rate_is_constant_within_an_iteration():
    config = Config(total_steps=100, num_envs=1, num_steps=20, num_minibatches=2, num_epochs=1)
    rates = [oracle.learning_rate(config, i) / config.learning_rate for i in range(14)]
    np.testing.assert_allclose(rates, np.repeat([1.0, 0.8, 0.6, 0.4, 0.2, 0.0, 0.0], 2), atol=1e-15)


def test_step_visits_rows_in_the_order_of_the_permutation():
    case = cases.fixed("discrete")
    weights = numpy_ops.to_float64(case_data.perturbed_weights(case))
    rollout, noise = cases.batch_near(case, weights)
    expected, rows = oracle.prepare(case.spec, case.config, weights, rollout)
    for start in range(0, 48, 12):
        picked = noise.permutation.reshape(-1)[start : start + 12]
        batch = Minibatch(*(x[picked] for x in rows))
        expected, _ = oracle.update(case.spec, case.config, expected, batch)
    got, metrics = oracle.step(case.spec, case.config, weights, rollout, noise)
    assert all((got[k] == expected[k]).all() for k in expected)
    assert metrics.grad_norm > 0
