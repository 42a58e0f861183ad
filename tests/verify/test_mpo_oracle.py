"""The oracle itself, against sources that share nothing with it: differences, SciPy, hand sums."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, optimize, special, stats
from verify.oracle_inputs import off_policy_inputs

from tiebreak.algorithms.mpo import dual_scipy
from tiebreak.algorithms.mpo import mpo_numpy as oracle
from tiebreak.algorithms.mpo.config import Config, jax_rl
from tiebreak.algorithms.mpo.data import initial_weights
from tiebreak.core.types import EnvSpec
from tiebreak.frameworks.numpy import ops as numpy_ops
from tiebreak.verify import mpo_cases as cases


def test_both_temperatures_and_both_numbers_of_critics_are_drawn():
    """Otherwise test_oracle_gradients.py would prove less than it seems to."""
    drawn = [cases.draw(seed, "continuous").config for seed in range(6)]
    assert {c.dual for c in drawn} == {"gradient", "newton"}
    assert {c.num_critics for c in drawn} == {1, 2}
    assert {len(c.epsilons) for c in drawn} == {1, 2}


def test_divergences_and_log_probabilities_match_scipy():
    case = cases.fixed("continuous")
    weights, rows, noise = off_policy_inputs(case)
    case = case.changed(epsilon_penalty=0.0, dual="newton")
    old_mean, old_std, _, _ = oracle.policy(
        case.spec, case.config, weights, "target/actor", rows.next_obs
    )
    mean, std, _, _ = oracle.policy(case.spec, case.config, weights, "actor", rows.next_obs)
    action = old_mean + old_std * noise.action
    improved = np.full(action.shape[:2], 1.0 / len(action))
    loss, kl_mean, kl_std, _ = oracle.policy_gradients(
        case.spec, case.config, weights, rows, action, improved
    )
    x = np.linspace(-20.0, 20.0, 20_001)[:, None, None]
    old = stats.norm(old_mean, old_std)
    for got, new in ((kl_mean, stats.norm(mean, old_std)), (kl_std, stats.norm(old_mean, std))):
        integrand = old.pdf(x) * (old.logpdf(x) - new.logpdf(x))
        want = integrate.trapezoid(integrand, x[:, 0, 0], axis=0).mean(axis=0)
        np.testing.assert_allclose(got, want, rtol=1e-6)
    log_prob = stats.norm(mean, old_std).logpdf(action) + stats.norm(old_mean, std).logpdf(action)
    alphas = [special.softplus(weights[f"dual/log_alpha_{k}"]) + 1e-8 for k in ("mean", "std")]
    penalty = (alphas[0] * kl_mean + alphas[1] * kl_std).sum()
    assert loss == pytest.approx(-log_prob.sum(axis=-1).mean() + penalty, rel=1e-10)


def test_best_temperature_is_the_minimum_of_the_dual():
    values, epsilon = np.random.default_rng(0).standard_normal((20, 30)), 0.1

    def dual(log_temperature):
        eta = np.exp(log_temperature)
        return eta * epsilon + eta * (special.logsumexp(values / eta, axis=0) - np.log(20)).mean()

    found = oracle.best_temperature(values, epsilon)
    best = optimize.minimize_scalar(dual, bracket=(-3.0, 0.0, 3.0), tol=1e-12)
    assert np.log(found) == pytest.approx(best.x, abs=1e-6)
    weights, _, kl = oracle.reweight(values, found)
    np.testing.assert_allclose(weights.sum(axis=0), 1.0, rtol=1e-12)
    assert kl == pytest.approx(epsilon, rel=1e-9)
    uniform = np.full(20, 1.0 / 20)
    assert kl == pytest.approx(np.mean([stats.entropy(w, uniform) for w in weights.T]), rel=1e-9)


def test_dual_of_the_host_has_its_slope():
    below = -np.abs(np.random.default_rng(0).standard_normal((5, 7)))
    for eta in (0.1, 1.0, 30.0):
        ends = [dual_scipy.dual(below, 0.1, eta * (1 + h))[0] for h in (-1e-6, 1e-6)]
        slope = (ends[1] - ends[0]) / (2e-6 * eta)
        assert dual_scipy.dual(below, 0.1, eta)[1] == pytest.approx(slope, abs=1e-7)


def test_penalty_prefers_actions_within_bounds():
    action = np.array([[[0.5, -0.5]], [[1.0, 2.0]], [[-4.0, -5.0]]])
    values = oracle.objectives(Config(), np.zeros((3, 1)), action)
    np.testing.assert_allclose(values[1, :, 0], [0.0, -1.0, -5.0])
    assert oracle.objectives(Config(epsilon_penalty=0.0), np.zeros((3, 1)), action).shape[0] == 1


def test_layer_norm_by_hand():
    """One hidden layer of two units: normalized, they are ±1 up to ε, whatever comes in."""
    weights = {
        "n/0/kernel": np.array([[1.0, 3.0]]), "n/0/bias": np.array([0.0, 0.0]),
        "n/norm/scale": np.array([1.0, 2.0]), "n/norm/bias": np.array([0.0, 1.0]),
        "n/1/kernel": np.array([[1.0], [10.0]]), "n/1/bias": np.array([100.0]),
    }  # fmt: skip
    out, _ = numpy_ops.layer_norm_mlp(weights, "n", np.array([[5.0]]))
    unit = 5.0 / np.sqrt(25.0 + 1e-5)  # the units are 5 and 15: mean 10, biased variance 25
    want = np.tanh(-unit) + 10.0 * np.tanh(2.0 * unit + 1.0) + 100.0
    np.testing.assert_allclose(out, [[want]], rtol=1e-14)


def test_initial_policy_has_the_initial_std_and_nearly_no_mean():
    spec = EnvSpec.make(observation_shape=(3,), action_low=[-1.0], action_high=[3.0])
    config = replace(jax_rl(spec), num_envs=4)
    weights = numpy_ops.to_float64(initial_weights(spec, config, 0))
    assert not [k for k in weights if "temperature" in k]
    obs = np.random.default_rng(0).standard_normal((4, 3))
    mean, std, _, _ = oracle.policy(spec, config, weights, "actor", obs)
    assert np.abs(mean).max() < 0.3
    np.testing.assert_allclose(std, config.init_std, rtol=0.2)
    act = oracle.act(spec, config, weights, obs, np.array([[0.0], [1e3], [-1e3], [0.0]]))
    np.testing.assert_array_equal(act.action[1:3], [[3.0], [-1.0]])
    np.testing.assert_array_equal(act.raw_action[[0, 3]], mean[[0, 3]])
    assert softplus_of(weights["dual/log_alpha_mean"]) == pytest.approx(1.0)


def softplus_of(x):
    return float(special.softplus(x)[0])


def test_dual_variables_stay_above_their_least():
    case = cases.fixed("continuous").changed(optimizer="sgd", dual_lr=1e6)
    weights, rows, noise = off_policy_inputs(case)
    after, _ = oracle.update(case.spec, case.config, weights, rows, noise)
    dual = np.concatenate([v for k, v in after.items() if k.startswith("dual/")])
    assert dual.min() == -18.0
    assert dual.max() > 0.0
