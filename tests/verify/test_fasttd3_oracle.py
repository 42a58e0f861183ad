"""FastTD3's oracle itself, against sources that share nothing with it: differences, hand sums."""

from __future__ import annotations

import numpy as np
import pytest

from tiebreak.algorithms.fasttd3 import fasttd3_numpy as oracle
from tiebreak.algorithms.fasttd3.config import Config
from tiebreak.algorithms.fasttd3.data import Noise, initial_weights
from tiebreak.core.off_policy import Batch
from tiebreak.core.types import EnvSpec
from tiebreak.frameworks.numpy import ops as numpy_ops
from tiebreak.verify import fasttd3_cases as cases
from tiebreak.verify.case import perturbed_weights


def test_projection_by_hand():
    """Atoms at −1, 0, 1: between two atoms a mass is shared, on one it stays whole."""
    probs = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])
    values = np.array([[-0.75, 0.0, 0.5], [-1.0, 1.0, 1.0]])
    got = numpy_ops.project_distribution(probs, values, -1.0, 1.0)
    want = [[0.375, 0.125 + 0.3 + 0.1, 0.1], [0.5, 0.0, 0.5]]
    np.testing.assert_allclose(got, want, rtol=1e-14, atol=1e-15)


def test_projection_keeps_mass_and_mean_of_what_lies_within():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(11), size=40)
    values = np.clip(rng.uniform(-6.0, 9.0, (40, 11)), -4.0, 7.0)
    got, atoms = (
        numpy_ops.project_distribution(probs, values, -4.0, 7.0),
        np.linspace(-4.0, 7.0, 11),
    )
    np.testing.assert_allclose(got.sum(1), 1.0, rtol=1e-13)
    np.testing.assert_allclose(got @ atoms, (probs * values).sum(1), rtol=1e-12, atol=1e-13)
    assert (got >= 0.0).all()


SPEC = EnvSpec.make(observation_shape=(2,), action_low=[-2.0], action_high=[6.0], visible=1)
CONFIG = Config(
    actor_sizes=(), critic_sizes=(), num_updates=2, target_noise=0.5, noise_clip=0.25,
    critic_lr=0.1, actor_lr=0.1, weight_decay=0.0, tau=0.25, optimizer="sgd",
    num_atoms=3, v_min=-1.0, v_max=1.0, normalize_obs=False,
)  # fmt: skip


def linear(**layers) -> dict[str, np.ndarray]:
    """Networks without hidden layers: `actor=s` is tanh(s·obs₀), a critic a list of one row for
    each input (two of obs, one of the action) of what it adds to the three logits.
    """
    out = {}
    for name, kernel in layers.items():
        kernel = np.array(kernel, float).reshape(-1, 1 if name == "actor" else 3)
        for prefix in ("", "target/") if name != "actor" else ("",):
            out[f"{prefix}{name}/0/kernel"] = kernel
            out[f"{prefix}{name}/0/bias"] = np.zeros(kernel.shape[1])
    return {**out, "adam/count": np.int32(0), "adam/actor_count": np.int32(0)}


def rows(obs, action, reward, discount, next_obs) -> Batch:
    """One update's rows; observations [B, 2]."""
    obs, next_obs = np.array(obs, float), np.array(next_obs, float)
    return Batch(obs, np.array(action, float)[:, None], np.array(reward, float),
                 np.array(discount, float), next_obs)  # fmt: skip


ZERO = [[0.0] * 3] * 3
LOG2 = np.log(2.0)


def test_the_target_takes_the_whole_distribution_with_the_smaller_mean():
    """Uniform against (1/4, 1/4, 1/2), whose mean is larger; both halved and moved by 1/2."""
    weights = linear(actor=0.0, critic1=[[0, 0, LOG2], *ZERO[1:]], critic2=ZERO)
    batch = rows([[0, 0]], [0], [0.5], [0.5], [[1, 0]])
    y = oracle.targets(SPEC, CONFIG, weights, batch, Noise(np.zeros((1, 1))))
    # −1, 0, 1 become 0, 1/2, 1
    np.testing.assert_allclose(y, [[0.0, 1 / 3 + 1 / 6, 1 / 6 + 1 / 3]], rtol=1e-14)


def test_nothing_follows_a_termination():
    weights = linear(actor=0.0, critic1=ZERO, critic2=ZERO)
    batch = rows([[0, 0]], [0], [0.25], [0.0], [[9, 9]])
    y = oracle.targets(SPEC, CONFIG, weights, batch, Noise(np.zeros((1, 1))))
    np.testing.assert_allclose(y, [[0.0, 0.75, 0.25]], rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize(("noise", "action"), [(0.2, 0.1), (9.0, 0.25), (-9.0, -0.25)])
def test_smoothing_is_clipped(noise, action):
    weights = linear(actor=0.0, critic1=[*ZERO[:2], [0, 0, 1]], critic2=[*ZERO[:2], [0, 0, 1]])
    batch = rows([[0, 0]], [0], [0.0], [1.0], [[0, 0]])
    y = oracle.targets(SPEC, CONFIG, weights, batch, Noise(np.array([[noise]])))
    np.testing.assert_allclose(y[0, 2] / y[0, 1], np.exp(action), rtol=1e-13)


def test_the_losses_by_hand():
    weights = linear(actor=0.0, critic1=ZERO, critic2=[*ZERO[:2], [0, 0, 1]])
    batch = rows([[1, 0]], [LOG2], [1.0], [0.0], [[0, 0]])
    terms, grads = oracle.critic_gradients(SPEC, CONFIG, weights, batch, Noise(np.zeros((1, 1))))
    # The target is all on 1; the critics give it 1/3 and 1/2.
    assert terms.loss == pytest.approx(np.log(3.0) + LOG2)
    assert (terms.q1, terms.q2, terms.target) == pytest.approx((0.0, 0.25, 1.0), abs=1e-15)
    np.testing.assert_allclose(grads["critic1/0/bias"], [1 / 3, 1 / 3, -2 / 3], rtol=1e-14)
    np.testing.assert_allclose(grads["critic2/0/kernel"][0], [1 / 4, 1 / 4, -1 / 2], rtol=1e-14)
    terms, grads = oracle.actor_gradients(SPEC, CONFIG, weights, batch, Noise(np.zeros((1, 1))))
    assert terms.loss == pytest.approx(0.0, abs=1e-15)  # the action is 0: both expect 0
    assert grads["actor/0/kernel"].shape == (1, 1)  # it sees one of two numbers


def test_the_actor_follows_the_critic_that_expects_less():
    weights = linear(actor=0.0, critic1=[[0, 0, -1], [0, 0, 0], [0, 0, 2]], critic2=ZERO)
    batch = rows([[1, 0], [-1, 0]], [0, 0], [0, 0], [0, 0], [[0, 0], [0, 0]])
    terms, grads = oracle.actor_gradients(SPEC, CONFIG, weights, batch, Noise(np.zeros((2, 1))))
    p = np.exp([0.0, 0.0, -1.0])
    p /= p.sum()
    q = p[2] - p[0]
    assert terms.loss == pytest.approx(-q / 2)  # in the second row critic 2 expects less: 0
    slope = p[2] * (1.0 - q) * 2.0  # d q / d logit₃ · d logit₃ / d action
    assert grads["actor/0/bias"] == pytest.approx(-slope / 2)


def test_targets_follow_every_update_and_the_actor_moves_once_on_the_last_batch():
    rng = np.random.default_rng(0)
    weights = linear(actor=0.3, critic1=rng.normal(size=9), critic2=rng.normal(size=9))
    batch = Batch(*(rng.uniform(-1, 1, (2, 4, *s)) for s in ((2,), (1,), (), (), (2,))))
    noise, want = Noise(rng.normal(size=(2, 4, 1))), dict(weights)
    for u in range(2):
        row = Batch(*(x[u] for x in batch)), Noise(noise.target[u])
        _, grads = oracle.critic_gradients(SPEC, CONFIG, want, *row)
        want = numpy_ops.sgd(want, grads, 0.1)
        for k in grads:
            want[f"target/{k}"] = 0.75 * want[f"target/{k}"] + 0.25 * want[k]
    _, grads = oracle.actor_gradients(SPEC, CONFIG, want, *row)
    want = numpy_ops.sgd(want, grads, 0.1, "adam/actor_count")
    got, _ = oracle.step(SPEC, CONFIG, weights, batch, noise)
    assert (got["adam/count"], got["adam/actor_count"]) == (2, 1)
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-13, atol=1e-15, err_msg=name)


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_decay_takes_its_share_of_every_weight_biases_included(kind):
    case = cases.fixed("continuous").changed(optimizer=kind)
    weights = numpy_ops.to_float64(perturbed_weights(case))
    still = {k: np.zeros_like(weights[k]) for k in ("actor/0/kernel", "actor/0/bias")}
    moments = {f"adam/mu/{k}": 0.0 * weights[k] for k in still}
    got, norm = oracle.optimize(case.config, {**weights, **moments}, still, 0.5, "adam/count")
    assert norm == 0.0
    for name in still:
        np.testing.assert_allclose(got[name], (1.0 - 0.5 * 0.1) * weights[name], rtol=1e-14)
    assert (got["actor/1/bias"] == weights["actor/1/bias"]).all()


def test_exploration_is_in_units_of_actions_and_ends_at_the_bounds():
    weights = linear(actor=1.0, critic1=ZERO, critic2=ZERO)
    obs, noise = np.zeros((4, 2)), np.array([[0.0], [0.5], [9.0], [-9.0]])
    act = oracle.act(SPEC, CONFIG, weights, obs, noise)
    assert act.raw_action[:, 0] == pytest.approx([0.0, 0.5, 1.0, -1.0])
    assert act.action[:, 0] == pytest.approx([2.0, 4.0, 6.0, -2.0])


def test_initial_weights_are_torchs_but_for_the_actors_last_layer():
    config = Config(actor_sizes=(64, 32), critic_sizes=(48,), num_atoms=5)
    weights = initial_weights(SPEC, config, 0)
    for name, fan_in in (("actor/1", 64), ("critic1/0", 3), ("critic2/1", 48)):
        for kind, least in (("kernel", 0.6), ("bias", 0.1)):
            largest = np.abs(weights[f"{name}/{kind}"]).max() * np.sqrt(fan_in)
            assert least < largest <= 1.0 + 1e-6, (name, kind)
    assert weights["actor/2/kernel"].std() == pytest.approx(0.01, rel=0.5)
    assert (weights["actor/2/bias"] == 0.0).all()
    assert weights["actor/0/kernel"].shape == (1, 64)
    assert weights["critic1/0/kernel"].shape == (3, 48)
