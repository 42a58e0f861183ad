"""FastSAC's oracle itself, against sources that share nothing with it: hand sums, its parts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tiebreak.algorithms.fastsac import fastsac_numpy as oracle
from tiebreak.algorithms.fastsac.config import Config, check, reference
from tiebreak.algorithms.fastsac.data import COUNTS, Noise, initial_weights
from tiebreak.core.errors import UsageError
from tiebreak.core.off_policy import Batch
from tiebreak.core.types import EnvSpec
from tiebreak.frameworks.numpy import ops as numpy_ops
from tiebreak.verify import fastsac_cases as cases
from tiebreak.verify.case import perturbed_weights

SPEC = EnvSpec.make(observation_shape=(2,), action_low=[-2.0], action_high=[6.0], visible=1)
CONFIG = Config(
    network="mlp", actor_sizes=(), critic_sizes=(), num_updates=2, policy_delay=2, tau=0.25,
    critic_lr=0.1, actor_lr=0.2, alpha_lr=0.5, weight_decay=0.0, alpha_weight_decay=0.0,
    optimizer="sgd", num_atoms=3, v_min=-1.0, v_max=1.0, normalize_obs=False, init_alpha=0.5,
)  # fmt: skip
"""Without hidden layers, so that all can be computed by hand."""
ZERO = [[0.0] * 3] * 3
LOG2 = np.log(2.0)
LOG_PROB = 2.5 - 0.5 * np.log(2.0 * np.pi)
"""Of the mean 0 with s = 0: log σ is −5/2 there, and tanh has slope 1."""


def linear(**critics) -> dict[str, np.ndarray]:
    """An actor with m = s = 0 everywhere, and critics with a row for each input (two of obs, one
    of the action) of what it adds to the three logits.
    """
    out = {"actor/0/kernel": np.zeros((1, 2)), "actor/0/bias": np.zeros(2)}
    for name, kernel in critics.items():
        for prefix in ("", "target/"):
            out[f"{prefix}{name}/0/kernel"] = np.array(kernel, float).reshape(3, 3)
            out[f"{prefix}{name}/0/bias"] = np.zeros(3)
    out["log_alpha"] = np.asarray(np.log(0.5))
    return out | {count: np.asarray(0, np.int32) for count in COUNTS.values()}


def rows(obs, action, reward, discount, next_obs) -> Batch:
    """One update's rows; observations [B, 2]."""
    obs, next_obs = np.array(obs, float), np.array(next_obs, float)
    return Batch(obs, np.array(action, float)[:, None], np.array(reward, float),
                 np.array(discount, float), next_obs)  # fmt: skip


def silent(count: int) -> Noise:
    return Noise(np.zeros((count, 1)), np.zeros((count, 1)))


def test_each_critic_follows_its_own_target_and_the_bonus_moves_the_atoms():
    """Rewards take the bonus back, so that values lie half-way between the atoms."""
    weights = linear(critic1=[[0, 0, LOG2], *ZERO[1:]], critic2=ZERO)
    alpha_log_prob = 0.5 * LOG_PROB
    reward = 0.5 + 0.5 * alpha_log_prob
    batch = rows([[0, 0]], [0], [reward], [0.5], [[1, 0]])
    y = oracle.targets(SPEC, CONFIG, weights, batch, silent(1))
    # −1, 0, 1 become 0, 1/2, 1
    np.testing.assert_allclose(y.first, [[0.0, 1 / 4 + 1 / 8, 1 / 8 + 1 / 2]], rtol=1e-13)
    np.testing.assert_allclose(y.second, [[0.0, 1 / 3 + 1 / 6, 1 / 6 + 1 / 3]], rtol=1e-13)
    assert y.entropy == pytest.approx(-LOG_PROB)


def test_nothing_follows_a_termination_and_no_entropy_either():
    weights = linear(critic1=ZERO, critic2=ZERO)
    batch = rows([[0, 0]], [0], [0.25], [0.0], [[9, 9]])
    y = oracle.targets(SPEC, CONFIG, weights, batch, silent(1))
    for probs in (y.first, y.second):
        np.testing.assert_allclose(probs, [[0.0, 0.75, 0.25]], rtol=1e-14, atol=1e-15)


def test_the_losses_by_hand():
    weights = linear(critic1=ZERO, critic2=[*ZERO[:2], [0, 0, 1]])
    batch = rows([[1, 0]], [LOG2], [1.0], [0.0], [[0, 0]])
    terms, grads = oracle.critic_gradients(SPEC, CONFIG, weights, batch, silent(1))
    # The targets are all on 1; the critics give it 1/3 and 1/2.
    assert terms.loss == pytest.approx(np.log(3.0) + LOG2)
    assert (terms.q1, terms.q2, terms.target) == pytest.approx((0.0, 0.25, 1.0), abs=1e-15)
    np.testing.assert_allclose(grads["critic1/0/bias"], [1 / 3, 1 / 3, -2 / 3], rtol=1e-14)
    np.testing.assert_allclose(grads["critic2/0/kernel"][0], [1 / 4, 1 / 4, -1 / 2], rtol=1e-14)
    terms, grads = oracle.actor_gradients(SPEC, CONFIG, weights, batch, silent(1))
    assert terms.q == pytest.approx(0.0, abs=1e-15)  # the action is 0: both expect 0
    assert terms.loss == pytest.approx(0.5 * LOG_PROB)
    assert grads["actor/0/kernel"].shape == (1, 2)  # it sees one of two numbers
    # m: half of the second critic's slope, 1/3·1 − 1/3·0 = 1/3; s: −α·d log σ / d s, by 5/2.
    np.testing.assert_allclose(grads["actor/0/bias"], [-1 / 6, -0.5 * 2.5], rtol=1e-13)


@pytest.mark.parametrize(("scale", "sign"), [(0.0, -1.0), (4.0, 1.0)])
def test_alpha_rises_while_the_entropy_is_below_its_target(scale, sign):
    """The entropy is −1.58 here, the target 0 or −4; steps shrink with α."""
    config = dataclasses.replace(CONFIG, target_entropy_scale=scale)
    batch = rows([[0, 0]], [0], [0.0], [0.0], [[0, 0]])
    weights = linear(critic1=ZERO, critic2=ZERO)
    terms, grads = oracle.alpha_gradients(SPEC, config, weights, batch, silent(1))
    assert terms.alpha == pytest.approx(0.5)
    assert terms.loss == grads["log_alpha"] == pytest.approx(0.5 * (scale - LOG_PROB))
    assert np.sign(grads["log_alpha"]) == sign


def test_a_round_in_its_order():
    """Critics and α by the α from before; targets after each; the actor once, on the last batch."""
    rng = np.random.default_rng(0)
    weights = linear(critic1=rng.normal(size=9), critic2=rng.normal(size=9))
    batch = Batch(*(rng.uniform(-1, 1, (2, 4, *s)) for s in ((2,), (1,), (), (), (2,))))
    noise, want = Noise(rng.normal(size=(2, 4, 1)), rng.normal(size=(1, 4, 1))), dict(weights)
    for u in range(2):
        row = Batch(*(x[u] for x in batch))
        sample = Noise(noise.next_action[u], noise.action[0])
        _, grads = oracle.critic_gradients(SPEC, CONFIG, want, row, sample)
        _, alpha = oracle.alpha_gradients(SPEC, CONFIG, want, row, sample)
        want = numpy_ops.sgd(want, grads, 0.1)
        want = numpy_ops.sgd(want, alpha, 0.5, "adam/alpha_count")
        for k in grads:
            want[f"target/{k}"] = 0.75 * want[f"target/{k}"] + 0.25 * want[k]
    _, grads = oracle.actor_gradients(SPEC, CONFIG, want, row, sample)
    want = numpy_ops.sgd(want, grads, 0.2, "adam/actor_count")
    got, _ = oracle.step(SPEC, CONFIG, weights, batch, noise)
    assert [int(got[count]) for count in COUNTS.values()] == [2, 2, 1]
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-13, atol=1e-15, err_msg=name)


def test_alpha_has_a_decay_of_its_own_and_moments_forget_faster():
    case = cases.fixed("continuous")
    weights = numpy_ops.to_float64(perturbed_weights(case))
    decays = {"actor/0/norm/scale": ("actor", 0.1), "log_alpha": ("alpha", 0.2)}
    for name, (optimizer, decay) in decays.items():
        still = {name: np.zeros_like(weights[name])}
        moments = {f"adam/mu/{name}": 0.0 * weights[name]}
        got, norm = oracle.optimize(case.config, {**weights, **moments}, still, optimizer)
        assert norm == 0.0
        kept = 1.0 - case.config.rates[optimizer] * decay
        np.testing.assert_allclose(got[name], kept * weights[name], rtol=1e-14)
        nu = f"adam/nu/{name}"
        np.testing.assert_allclose(got[nu], 0.95 * weights[nu], rtol=1e-14)


def test_actions_reach_exactly_the_bounds_and_zero_noise_is_greedy():
    weights = linear(critic1=ZERO, critic2=ZERO)
    act = oracle.act(SPEC, CONFIG, weights, np.zeros((3, 2)), np.array([[0.0], [1e5], [-1e5]]))
    np.testing.assert_array_equal(act.raw_action[:, 0], [0.0, 1.0, -1.0])
    np.testing.assert_array_equal(act.action[:, 0], [2.0, 6.0, -2.0])


def test_the_first_policy_is_the_same_everywhere():
    """Its last layer is zero: means of 0, and σ = exp(−5/2)."""
    config = Config(actor_sizes=(64, 32), critic_sizes=(48,), num_atoms=5)
    weights = initial_weights(SPEC, config, 0)
    for kind in ("kernel", "bias"):
        assert (weights[f"actor/2/{kind}"] == 0.0).all()
    assert weights["actor/2/kernel"].shape == (32, 2)
    assert (weights["actor/1/norm/scale"] == 1.0).all()
    for name, fan_in in (("actor/1", 64), ("critic1/0", 3), ("critic2/1", 48)):
        for kind, least in (("kernel", 0.6), ("bias", 0.1)):
            largest = np.abs(weights[f"{name}/{kind}"]).max() * np.sqrt(fan_in)
            assert least < largest <= 1.0 + 1e-6, (name, kind)
    assert weights["log_alpha"] == pytest.approx(np.log(0.001))
    rng = np.random.default_rng(0)
    _, _, _, std, _ = oracle.policy(SPEC, config, weights, rng.normal(size=(9, 2)), np.ones((9, 1)))
    np.testing.assert_allclose(std, np.exp(-2.5), rtol=1e-14)


AUTHORS = {
    "batch_size": 8192, "num_updates": 8, "policy_delay": 4, "gamma": 0.97, "tau": 0.125,
    "n_step": 1, "num_atoms": 101, "v_min": -20.0, "v_max": 20.0, "init_alpha": 0.001,
    "target_entropy_scale": 0.0, "log_std_min": -5.0, "log_std_max": 0.0, "adam_beta2": 0.95,
    "weight_decay": 0.001, "actor_sizes": (512, 256, 128), "critic_sizes": (768, 384, 192),
    "actor_lr": 3e-4, "critic_lr": 3e-4, "alpha_lr": 3e-4, "max_grad_norm": 0.0,
    "num_envs": 4096, "replay_size": 1024 * 4096, "learning_starts": 10 * 4096,
    "total_steps": 50_000 * 4096, "activation": "silu", "network": "norm_mlp",
}  # fmt: skip
"""Read from config_types/algo.py and config_values/algo.py of amazon-far/holosoma, commit fc600e7,
and where these say nothing (number of environments, moments) from its code."""


def test_settings_are_the_authors():
    found = reference(SPEC)
    assert {name: getattr(found, name) for name in AUTHORS} == AUTHORS
    assert found.decays == {"critic": 0.001, "alpha": 0.01, "actor": 0.001}  # torch's for α


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy_delay": 3}, "policy_delay is 3; it must divide num_updates"),
        ({"v_min": 20.0}, "v_min is 20.0; it must be below v_max"),
        ({"log_std_min": 0.0}, "log_std_min is 0.0; it must be below log_std_max"),
        ({"adam_beta2": 1.0}, "adam_beta2 is 1.0; it must be in"),
        ({"actor_sizes": (8, 0)}, "actor_sizes .* has a width below 1"),
    ],
)
def test_settings_that_contradict_one_another(changes, message):
    with pytest.raises(UsageError, match=message):
        check(dataclasses.replace(Config(), **changes))


def test_discrete_actions_are_refused():
    with pytest.raises(UsageError, match="fastsac needs a box of actions"):
        reference(EnvSpec.make(observation_shape=(2,), num_actions=3))
