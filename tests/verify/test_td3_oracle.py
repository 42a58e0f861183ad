"""TD3's oracle itself, against sources that share nothing with it: differences and hand sums."""

from __future__ import annotations

import numpy as np
import pytest

from tiebreak.algorithms.td3 import td3_numpy as oracle
from tiebreak.algorithms.td3.config import Config
from tiebreak.algorithms.td3.data import Noise
from tiebreak.core.off_policy import Batch
from tiebreak.core.types import EnvSpec
from tiebreak.frameworks.numpy import ops as numpy_ops

SPEC = EnvSpec.make(observation_shape=(1,), action_low=[-2.0], action_high=[6.0])
CONFIG = Config(
    hidden_sizes=(), num_updates=2, target_noise=0.5, noise_clip=0.25, exploration_noise=0.5,
    critic_lr=0.1, actor_lr=0.1, tau=0.25, optimizer="sgd",
)  # fmt: skip


def linear(**layers: tuple[float, ...]) -> dict[str, np.ndarray]:
    """Networks without hidden layers: `actor=(s,)` is tanh(s·obs), a critic (s, a) s·obs + a·act.
    Targets are the same.
    """
    out = {}
    for name, column in layers.items():
        for prefix in ("", "target/"):
            out[f"{prefix}{name}/0/kernel"] = np.array(column)[:, None]
            out[f"{prefix}{name}/0/bias"] = np.zeros(1)
    return {**out, "adam/count": np.int32(0), "adam/actor_count": np.int32(0)}


def rows(*columns) -> Batch:
    """One row per update: obs, action, reward, discount, next_obs."""
    obs, action, reward, discount, next_obs = (np.array(x, float) for x in columns)
    return Batch(obs[:, None], action[:, None], reward, discount, next_obs[:, None])


@pytest.mark.parametrize(
    ("noise", "action"), [(0.2, 0.1), (9.0, 0.25), (-9.0, -0.25)], ids=["free", "above", "below"]
)
def test_the_target_by_hand(noise, action):
    """A policy of 0; the smoothing is σ·noise, clipped; the smaller value counts."""
    weights = linear(actor=(0.0,), critic1=(1.0, 2.0), critic2=(1.0, -2.0))
    batch = rows([1.0], [0.5], [1.0], [0.5], [3.0])
    y = oracle.targets(SPEC, CONFIG, weights, batch, Noise(np.array([[noise]])))
    assert y == pytest.approx(1.0 + 0.5 * (3.0 - 2.0 * abs(action)))


def test_smoothing_does_not_leave_the_bounds():
    weights = linear(actor=(9.0,), critic1=(0.0, 1.0), critic2=(0.0, 1.0))
    batch = rows([1.0], [0.5], [0.0], [1.0], [3.0])
    y = oracle.targets(SPEC, CONFIG, weights, batch, Noise(np.array([[9.0]])))
    assert y == pytest.approx(1.0, abs=1e-15)


def test_the_losses_by_hand():
    weights = linear(actor=(0.0,), critic1=(1.0, 2.0), critic2=(3.0, 0.0))
    batch = rows([1.0, 2.0], [0.5, -1.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0])
    noise = Noise(np.zeros((2, 1)))
    terms, grads = oracle.critic_gradients(SPEC, CONFIG, weights, batch, noise)
    # y = 1, 1; Q₁ = 1 + 2·½, 2 − 2; Q₂ = 3, 6
    assert terms.loss == pytest.approx((1.0 + 1.0) / 2 + (4.0 + 25.0) / 2)
    assert (terms.q1, terms.q2, terms.target) == pytest.approx((1.0, 4.5, 1.0))
    assert grads["critic1/0/kernel"][:, 0] == pytest.approx([1.0 - 2.0, 0.5 + 1.0])
    assert grads["critic2/0/bias"] == pytest.approx([2.0 + 5.0])
    terms, grads = oracle.actor_gradients(SPEC, CONFIG, weights, batch, noise)
    assert terms.loss == pytest.approx(-1.5)  # the actions are 0
    assert grads["actor/0/kernel"] == pytest.approx(-2.0 * 1.5)  # −2·mean(obs)·(1 − 0²)


def test_a_group_moves_the_actor_once_on_the_last_batch_and_all_targets_with_it():
    weights = linear(actor=(0.0,), critic1=(1.0, 2.0), critic2=(3.0, 0.0))
    batch = Batch(*(x[:, None] for x in rows([1.0, 2.0], [0.5, -1.0], [1, 1], [0, 0], [0, 0])))
    noise, critic_only = Noise(np.zeros((2, 1, 1))), dict(weights)
    for u in range(2):
        row = Batch(*(x[u] for x in batch)), Noise(noise.target[u])
        _, grads = oracle.critic_gradients(SPEC, CONFIG, critic_only, *row)
        critic_only = numpy_ops.sgd(critic_only, grads, 0.1)
    _, grads = oracle.actor_gradients(SPEC, CONFIG, critic_only, *row)
    got, metrics = oracle.step(SPEC, CONFIG, weights, batch, noise)
    for name in oracle.trained(weights):
        want = critic_only[name] - 0.1 * grads.get(name, 0.0)
        np.testing.assert_allclose(got[name], want, rtol=1e-14, atol=1e-15)
        moved = 0.75 * weights[name] + 0.25 * want
        np.testing.assert_allclose(got[f"target/{name}"], moved, rtol=1e-14, atol=1e-15)
    assert (got["adam/count"], got["adam/actor_count"]) == (2, 1)
    assert metrics.actor_loss == pytest.approx(-critic_only["critic1/0/kernel"][0, 0] * 2.0
                                               - critic_only["critic1/0/bias"][0])  # fmt: skip


def test_exploration_is_in_the_learners_units_and_ends_at_the_bounds():
    weights = linear(actor=(1.0,), critic1=(0.0, 0.0), critic2=(0.0, 0.0))
    obs, noise = np.zeros((4, 1)), np.array([[0.0], [1.0], [9.0], [-9.0]])
    act = oracle.act(SPEC, CONFIG, weights, obs, noise)
    assert act.raw_action[:, 0] == pytest.approx([0.0, 0.5, 1.0, -1.0])
    assert act.action[:, 0] == pytest.approx([2.0, 4.0, 6.0, -2.0])


def test_gradient_in_the_input_is_the_slope_too():
    rng = np.random.default_rng(0)
    for activation in ("tanh", "relu"):
        shapes = {"q/0/kernel": (3, 8), "q/0/bias": (8,), "q/1/kernel": (8, 2), "q/1/bias": (2,)}
        weights = {k: rng.standard_normal(shape) for k, shape in shapes.items()}
        x, d_out, direction = (rng.standard_normal((5, n)) for n in (3, 2, 3))
        _, inputs = numpy_ops.mlp(weights, "q", x, activation)
        d_x = numpy_ops.mlp_input_gradient(weights, "q", inputs, d_out, activation)
        low, high = (
            (numpy_ops.mlp(weights, "q", x + h * direction, activation)[0] * d_out).sum()
            for h in (-1e-6, 1e-6)
        )
        assert (high - low) / 2e-6 == pytest.approx((d_x * direction).sum(), rel=1e-7)
