"""PQN's oracle against hand sums, and RAdam against the libraries that have it."""

from __future__ import annotations

import numpy as np
import pytest

from tiebreak import registry
from tiebreak.algorithms.pqn import pqn_numpy as oracle
from tiebreak.algorithms.pqn.config import Config
from tiebreak.algorithms.pqn.data import Minibatch, Rollout, initial_weights
from tiebreak.core.errors import UsageError
from tiebreak.core.types import EnvSpec
from tiebreak.frameworks.numpy import ops as numpy_ops
from tiebreak.verify import case as case_data
from tiebreak.verify import pqn_cases as cases


def returns(terminated=(), truncated=(), **settings) -> list[float]:
    """λ-returns of four steps with rewards 1, 2, 3, 4; max Q(next_obs) is 8, then 16, 24, 32."""
    zero = np.zeros((4, 1))
    ends = [np.isin(np.arange(4), steps)[:, None] for steps in (terminated, truncated)]
    reward = np.array([[1.0], [2.0], [3.0], [4.0]])
    next_q = np.array([8.0, 16.0, 24.0, 32.0])[:, None, None] * np.array([1.0, -1.0, 0.5])
    config = Config(num_envs=1, num_steps=4, gamma=0.5, **{"reward_scale": 1.0, **settings})
    rollout = Rollout(zero, zero, reward, *ends, zero)
    return oracle.lambda_returns(config, rollout, next_q)[:, 0].tolist()


def test_returns_by_hand():
    assert returns(q_lambda=0.0) == [5.0, 10.0, 15.0, 20.0]
    assert returns(q_lambda=1.0) == [5.25, 8.5, 13.0, 20.0]
    assert returns(q_lambda=0.5)[2:] == [3 + 0.5 * (24 + 20) / 2, 20.0]


def test_ends_cut_the_trace_and_only_terminations_the_value():
    assert returns(q_lambda=1.0, terminated=[1]) == [2.0, 2.0, 13.0, 20.0]
    assert returns(q_lambda=1.0, truncated=[1]) == [6.0, 10.0, 13.0, 20.0]
    assert returns(q_lambda=1.0, truncated=[1], truncation="terminal") == [2.0, 2.0, 13.0, 20.0]
    assert returns(q_lambda=0.5, truncated=[3], truncation="terminal")[3] == 4.0


def test_the_authors_recursion_gives_the_same_where_nothing_is_cut():
    """That of their pqn_atari.py carries λ-return and next value; `done` is our `terminated`."""
    rng = np.random.default_rng(0)
    reward, done = rng.standard_normal((7, 3)), rng.random((7, 3)) < 0.3
    next_q = rng.standard_normal((7, 3, 4))
    obs = np.zeros((7, 3, 1))
    config = Config(num_envs=3, num_steps=7, gamma=0.9, q_lambda=0.7, reward_scale=1.0)
    rollout = Rollout(obs, obs, reward, done, np.zeros_like(done), obs)
    best = next_q.max(axis=-1)
    after = best[-1] * (1 - done[-1])
    expected = [reward[-1] + 0.9 * after]
    for t in reversed(range(6)):
        after = best[t]
        bootstrapped = reward[t] + 0.9 * (1 - done[t]) * after
        mixed = bootstrapped + 0.9 * 0.7 * (expected[0] - after)
        expected.insert(0, np.where(done[t], reward[t], mixed))
    np.testing.assert_allclose(oracle.lambda_returns(config, rollout, next_q), expected, rtol=1e-12)


def test_epsilon_falls_by_iteration_and_the_learning_rate_by_update():
    config = Config(
        total_steps=200, num_envs=1, num_steps=20, num_minibatches=2, num_epochs=1,
        epsilon_end=0.2, exploration_fraction=0.4,
    )  # fmt: skip
    shares = [oracle.epsilon(config, count) for count in range(12)]
    expected = np.repeat([1.0, 0.8, 0.6, 0.4, 0.2, 0.2], 2)
    np.testing.assert_allclose(shares, expected, atol=1e-15)
    rates = [oracle.learning_rate(config, n) / config.learning_rate for n in (0, 1, 10, 20, 30)]
    np.testing.assert_allclose(rates, [1.0, 0.95, 0.5, 0.0, 0.0], atol=1e-15)


@pytest.mark.parametrize("network", ["norm_mlp", "norm_cnn"])
def test_first_kernels_have_the_variance_of_their_inputs(network):
    spec = EnvSpec.make(observation_shape=(10, 10, 4), num_actions=6)
    arrays = initial_weights(spec, Config(network=network), seed=0)
    hidden = 2.0 if network == "norm_cnn" else 1.0
    kernels = [name for name in arrays if name.startswith("q/") and name.endswith("kernel")]
    for name in kernels:
        fan_in = arrays[name].size / arrays[name].shape[-1]
        wanted = np.sqrt((1.0 if name == kernels[-1] else hidden) / fan_in)
        assert arrays[name].std() == pytest.approx(wanted, rel=0.1), name
        assert np.abs(arrays[name]).max() <= 2.0 * wanted / 0.8796, name
    assert (arrays["q/1/norm/scale"] == 1.0).all()


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


def test_other_actions_are_refused_in_one_line():
    box = EnvSpec.make(observation_shape=(3,), action_low=[-1.0], action_high=[1.0])
    with pytest.raises(UsageError, match="pqn needs discrete actions; for a box use"):
        registry.reference_config("pqn", box)
    choices = EnvSpec.make(observation_shape=(3,), nvec=[2, 3])
    with pytest.raises(UsageError, match=r"one discrete action; for 2 at once .* use ppo"):
        registry.reference_config("pqn", choices)


STEPS = 12
"""The first five are taken without the variance."""
GRADIENTS = np.random.default_rng(0).standard_normal((STEPS, 5))


def ours(eps: float) -> np.ndarray:
    """Return the oracle's path of five weights from 0."""
    state = {"w": np.zeros(5), "adam/mu/w": np.zeros(5), "adam/nu/w": np.zeros(5)}
    state["adam/count"] = np.asarray(0, np.int32)
    path = []
    for gradient in GRADIENTS:
        state = numpy_ops.radam(state, {"w": gradient}, 0.1, eps)
        path.append(state["w"])
    return np.array(path)


def test_radam_is_torch_s_without_epsilon():
    """With one it is not: torch adds it before the bias correction."""
    torch = pytest.importorskip("torch")

    def theirs(eps):
        weights = torch.nn.Parameter(torch.zeros(5, dtype=torch.float64))
        optimizer = torch.optim.RAdam([weights], lr=0.1, eps=eps)
        path = []
        for gradient in GRADIENTS:
            weights.grad = torch.tensor(gradient)
            optimizer.step()
            path.append(weights.detach().numpy().copy())
        return np.array(path)

    np.testing.assert_allclose(ours(0.0), theirs(0.0), rtol=1e-10, atol=1e-12)
    assert np.abs(ours(1e-3) - theirs(1e-3)).max() > 1e-5


def test_radam_is_optax_s():
    jax = pytest.importorskip("jax")
    optax = pytest.importorskip("optax")
    with jax.enable_x64(True):
        rule = optax.radam(0.1, eps=1e-3)
        weights = jax.numpy.zeros(5)
        state = rule.init(weights)
        path = []
        for gradient in GRADIENTS:
            updates, state = rule.update(jax.numpy.asarray(gradient), state)
            weights = optax.apply_updates(weights, updates)
            path.append(np.asarray(weights))
    np.testing.assert_allclose(ours(1e-3), np.array(path), rtol=1e-10, atol=1e-12)
