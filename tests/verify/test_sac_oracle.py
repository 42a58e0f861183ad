"""SAC's oracle, against sources that share nothing with it: differences, SciPy, hand sums."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import integrate, stats
from verify.oracle_inputs import off_policy_inputs

from tiebreak.algorithms.sac import sac_numpy as oracle
from tiebreak.algorithms.sac.config import Config, check, equal_rates, reference
from tiebreak.algorithms.sac.data import COUNTS, Batch, Noise, initial_weights
from tiebreak.core.errors import UsageError
from tiebreak.core.types import EnvSpec
from tiebreak.frameworks.numpy import ops as numpy_ops
from tiebreak.verify import case as case_data
from tiebreak.verify import off_policy_checks as checks
from tiebreak.verify import sac_cases as cases

SPEC = EnvSpec.make(observation_shape=(2,), action_low=[-0.4, 0.0], action_high=[0.4, 10.0])


def test_the_three_gradients_are_of_all_that_is_trained():
    case = cases.fixed("continuous")
    weights, batch, noise = off_policy_inputs(case)
    names = [
        name
        for function in cases.LOSSES
        for name in getattr(oracle, function)(case.spec, case.config, weights, batch, noise)[1]
    ]
    assert sorted(names) == sorted(oracle.trained(weights))


def test_either_critic_is_the_smaller_one_somewhere():
    """Otherwise test_oracle_gradients.py would prove less of the actor than it seems to."""
    for seed in range(6):
        weights, batch, _ = off_policy_inputs(case := cases.draw(seed, "continuous"))
        q, _ = oracle.critics(case.spec, case.config, weights, "", batch.obs, batch.action)
        if 0 < (q[0] < q[1]).mean() < 1:
            return
    pytest.fail("one critic was below the other everywhere")


def test_log_prob_is_the_density_of_what_tanh_makes_of_a_normal():
    case = cases.draw(3, "continuous")
    weights, batch, noise = off_policy_inputs(case)
    action, log_prob, _, std, _ = oracle.policy(
        case.spec, case.config, weights, batch.obs, noise.action
    )
    out, _ = numpy_ops.mlp(weights, "actor", batch.obs, case.config.activation)
    mean = out[:, : case.spec.action_size]
    x = mean + std * noise.action
    np.testing.assert_allclose(action, np.tanh(x), rtol=1e-14)
    slope = np.cosh(x) ** -2.0
    expected = (stats.norm(mean, std).logpdf(x) - np.log(slope)).sum(axis=-1)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-10, atol=1e-10)
    assert case.config.log_std_min < np.log(std).min() < np.log(std).max() < case.config.log_std_max


def test_density_integrates_to_one():
    """Over the action, from log-probabilities alone; the constant is in it."""
    weights, config = constant_policy(mean=0.3, s=0.2), Config(hidden_sizes=())
    std = np.exp(-5.0 + 3.5 * (np.tanh(0.2) + 1.0))

    def density(a):
        noise = np.full((1, 1), (np.arctanh(a) - 0.3) / std)
        return np.exp(oracle.policy(ONE, config, weights, np.zeros((1, 1)), noise)[1][0])

    total, _ = integrate.quad(density, -1.0, 1.0)
    assert total == pytest.approx(1.0, abs=1e-6)


def constant_policy(mean: float, s: float) -> dict[str, np.ndarray]:
    """A policy without hidden layers that ignores its one observation; one action dimension."""
    return {"actor/0/kernel": np.zeros((1, 2)), "actor/0/bias": np.array([mean, s])}


def test_log_prob_stays_exact_where_tanh_rounds_to_one():
    """log(1 − tanh²x) is log 4 − 2|x| there."""
    weights = constant_policy(mean=0.0, s=50.0)  # log std = 2
    noise = np.array([[6.0], [-6.0]])
    _, log_prob, *_ = oracle.policy(ONE, Config(), weights, np.zeros((2, 1)), noise)
    x = 6.0 * np.exp(2.0)
    expected = stats.norm().logpdf(6.0) - 2.0 - (np.log(4.0) - 2.0 * x)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-13)


def constants(**values: float) -> dict[str, np.ndarray]:
    """An agent of one observation and action without hidden layers: networks are their biases."""
    weights = {"log_alpha": np.asarray(np.log(values["alpha"]))} | constant_policy(0.0, 0.0)
    for name in ("critic1", "critic2", "target/critic1", "target/critic2"):
        weights[f"{name}/0/kernel"] = np.zeros((2, 1))
        weights[f"{name}/0/bias"] = np.array([values[name]])
    trained = oracle.trained(weights)
    for moment in ("mu", "nu"):
        weights.update({f"adam/{moment}/{k}": np.zeros_like(weights[k]) for k in trained})
    return weights | {count: np.asarray(0, np.int32) for count in COUNTS.values()}


ONE = EnvSpec.make(observation_shape=(1,), action_low=[-1.0], action_high=[1.0])
TWINS = {"critic1": 5.0, "critic2": 7.0, "target/critic1": 3.0, "target/critic2": 2.0}
LOG_PROB = 1.5 - 0.5 * np.log(2 * np.pi)  # of the mean 0, where tanh has slope 1; log std is −1.5


def two_rows(config: Config):
    """Rewards 1 and 2, the second one's episode over; no noise."""
    zero = np.zeros((2, 1))
    batch = Batch(zero, zero, np.array([1.0, 2.0]), np.array([0.5, 0.0]), zero)
    return batch, Noise(zero, zero)


def test_critics_by_hand():
    config = Config(hidden_sizes=())
    rows = two_rows(config)
    terms, grads = oracle.critic_gradients(ONE, config, constants(alpha=0.1, **TWINS), *rows)
    target = np.array([1.0 + 0.5 * (2.0 - 0.1 * LOG_PROB), 2.0])
    assert terms.target == pytest.approx(target.mean(), rel=1e-14)
    expected = ((5.0 - target) ** 2).mean() + ((7.0 - target) ** 2).mean()
    assert terms.loss == pytest.approx(expected, rel=1e-14)
    assert grads["critic1/0/bias"][0] == pytest.approx(2.0 * (5.0 - target.mean()), rel=1e-14)


def test_an_update_by_hand():
    """SGD, steps of ½, ¼ and 1: the actor's loss sees the critics after their step, the targets
    too; α's loss sees the actor after its own.
    """
    config = Config(
        hidden_sizes=(), optimizer="sgd", critic_lr=0.5, actor_lr=0.25, alpha_lr=1.0, tau=0.1
    )
    start, rows = constants(alpha=0.1, **TWINS), two_rows(config)
    weights, metrics = oracle.update(ONE, config, start, *rows)
    target = metrics.target
    np.testing.assert_allclose(weights["critic1/0/bias"], target)  # 5 − ½·2(5 − target)
    np.testing.assert_allclose(weights["target/critic1/0/bias"], 0.9 * 3.0 + 0.1 * target)
    assert metrics.actor_loss == pytest.approx(0.1 * LOG_PROB - target, rel=1e-13)
    # Without noise only log σ matters: −α, times d log σ / d s = 3.5.
    s = 0.25 * 0.1 * 3.5
    np.testing.assert_allclose(weights["actor/0/bias"], [0.0, s], atol=1e-14)
    log_prob = 5.0 - 3.5 * (np.tanh(s) + 1.0) - 0.5 * np.log(2 * np.pi)
    assert weights["log_alpha"] == pytest.approx(np.log(0.1) + log_prob - 1.0, rel=1e-13)
    assert metrics.alpha == pytest.approx(0.1)
    assert [int(weights[k]) for k in COUNTS.values()] == [1, 1, 1]


def test_alpha_falls_where_entropy_is_above_its_target():
    config = Config(hidden_sizes=(), target_entropy_scale=1.0)
    weights, rows = constants(alpha=0.1, **TWINS), two_rows(config)
    high = {**weights, "actor/0/bias": np.array([0.0, 0.0])}  # entropy −0.58, target −1
    low = {**weights, "actor/0/bias": np.array([0.0, -1.0])}  # entropy −3.2
    for moved, sign in ((high, 1.0), (low, -1.0)):
        _, grads = oracle.alpha_gradients(ONE, config, moved, *rows)
        assert np.sign(grads["log_alpha"]) == sign


def test_actions_reach_exactly_the_bounds_and_zero_noise_is_greedy():
    case = case_data.Case("sac", SPEC, Config(num_envs=3, hidden_sizes=(4,)), 0)
    weights = numpy_ops.to_float64(case_data.perturbed_weights(case))
    obs, noise = np.zeros((3, 2)), np.array([[0.0, 0.0], [1e5, 1e5], [-1e5, -1e5]])
    act = oracle.act(SPEC, case.config, weights, obs, noise)
    np.testing.assert_array_equal(act.action[1:], [[0.4, 10.0], [-0.4, 0.0]])
    out, _ = numpy_ops.mlp(weights, "actor", obs, "relu")
    np.testing.assert_allclose(act.raw_action[0], np.tanh(out[0, :2]), rtol=1e-14)


def test_a_step_is_its_updates_in_order():
    case = cases.fixed("continuous")
    weights = numpy_ops.to_float64(case_data.perturbed_weights(case))
    batch, noise = checks.batch_near(case, weights)
    expected, data = weights, oracle.prepare(case.spec, case.config, weights, batch)
    for u in range(case.config.num_updates):
        rows = Batch(*(x[u] for x in data)), Noise(*(x[u].astype(float) for x in noise))
        expected, _ = oracle.update(case.spec, case.config, expected, *rows)
    got, metrics = oracle.step(case.spec, case.config, weights, batch, noise)
    assert all((got[k] == expected[k]).all() for k in expected if "obs_moments" not in k)
    assert got["obs_moments/count"] == weights["obs_moments/count"] + batch.reward.size
    assert metrics.actor_norm > 0


def test_targets_start_as_copies_and_critics_differ():
    weights = initial_weights(SPEC, Config(), 0)
    for name in ("critic1", "critic2"):
        copy = weights[f"target/{name}/0/kernel"]
        np.testing.assert_array_equal(copy, weights[f"{name}/0/kernel"])
    assert (weights["critic1/0/kernel"] != weights["critic2/0/kernel"]).any()
    assert weights["actor/2/bias"].shape == (4,)


def test_settings():
    assert reference(SPEC) == check(Config())
    assert equal_rates(SPEC).rates == {"critic": 3e-4, "actor": 3e-4, "alpha": 3e-4}
    with pytest.raises(UsageError, match=r"needs a box or one discrete action; .* use ppo"):
        reference(EnvSpec.make(observation_shape=(2,), nvec=(3, 2)))
    with pytest.raises(UsageError, match="log_std_min"):
        check(dataclasses.replace(Config(), log_std_min=3.0))
