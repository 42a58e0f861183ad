"""DQN's oracle itself, against sources that share nothing with it: differences and hand sums."""

from __future__ import annotations

import numpy as np
import pytest

from tiebreak.algorithms.dqn import dqn_numpy as oracle
from tiebreak.algorithms.dqn.config import Config
from tiebreak.core.off_policy import Batch
from tiebreak.core.types import EnvSpec
from tiebreak.frameworks.numpy import ops as numpy_ops
from tiebreak.verify import dqn_cases as cases
from tiebreak.verify.case import perturbed_weights

SPEC = EnvSpec.make(observation_shape=(1,), num_actions=2)


def table(low: float, high: float) -> dict[str, np.ndarray]:
    """A network without hidden layers: Q(obs, a) = low or high times obs."""
    return {"0/kernel": np.array([[low, high]]), "0/bias": np.zeros(2)}


@pytest.mark.parametrize(
    ("double_q", "target"), [(False, 1.0 + 0.5 * 8.0), (True, 1.0 + 0.5 * 6.0)]
)
def test_the_target_by_hand(double_q, target):
    """The network prefers the second action (2 > 1), the target network the first (8 > 6)."""
    weights = {f"q/{k}": v for k, v in table(0.5, 1.0).items()}
    weights |= {f"target/q/{k}": v for k, v in table(4.0, 3.0).items()}
    batch = Batch(np.array([[1.0]]), np.array([0]), np.array([1.0]), np.array([0.5]),
                  np.array([[2.0]]))  # fmt: skip
    config = Config(double_q=double_q, hidden_sizes=())
    terms, grads = oracle.gradients(SPEC, config, weights, batch, None)
    assert terms.target == pytest.approx(target)
    assert terms.loss == pytest.approx((0.5 - target) ** 2)
    assert grads["q/0/kernel"][0] == pytest.approx([2.0 * (0.5 - target), 0.0])


def test_epsilon_falls_from_one_to_its_end_over_half_the_run():
    config = Config()
    updates = (config.total_steps // 2 - config.learning_starts) // 10
    assert oracle.epsilon(config, 0) == pytest.approx(1.0 - 0.95 * 10_000 / 250_000)
    assert oracle.epsilon(config, updates) == pytest.approx(0.05)
    assert oracle.epsilon(config, 10 * updates) == pytest.approx(0.05)


def test_zero_noise_is_greedy_even_while_everything_is_explored():
    case = cases.fixed("discrete").changed(epsilon_start=1.0, epsilon_end=1.0)
    weights = numpy_ops.to_float64(perturbed_weights(case))
    obs = np.random.default_rng(0).standard_normal((7, *case.spec.observation_shape))
    greedy = oracle.act(case.spec, case.config, weights, obs, np.zeros((7, 2))).action
    rows = numpy_ops.normalize_obs(case.spec, case.config, weights, obs.reshape(7, -1))
    q, _ = numpy_ops.mlp(weights, "q", rows, "relu")
    np.testing.assert_array_equal(greedy, q.argmax(-1))
    anywhere = np.stack([np.full(7, 0.5), np.linspace(0.0, 0.99, 7)], axis=-1)
    explored = oracle.act(case.spec, case.config, weights, obs, anywhere).action
    np.testing.assert_array_equal(explored, (np.linspace(0.0, 0.99, 7) * 4).astype(int))
