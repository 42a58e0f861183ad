"""PPO with memory: the oracle, the unit's equations, all frameworks, planted bugs, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from verify.oracle_inputs import on_policy_inputs
from verify.planted_memory import PLANTS
from verify.runtimes import inner_runtime, packages_of
from verify.test_planted_bugs import plant_bug

from tiebreak import registry
from tiebreak.algorithms.ppo import ppo_numpy as oracle
from tiebreak.core.errors import UsageError
from tiebreak.core.networks import Layers
from tiebreak.core.types import EnvSpec
from tiebreak.frameworks import weights
from tiebreak.frameworks.numpy import networks
from tiebreak.frameworks.numpy.ops import to_float64
from tiebreak.verify import parity
from tiebreak.verify.case import Case, cases_of, perturbed_weights
from tiebreak.verify.compare import ErrorTable
from tiebreak.verify.network_cases import WITH_MEMORY, all_of, of_network

STEP = 1e-6
LAYERS = Layers("gru", (7, 5), "tanh")


def continuous(case: Case) -> Case:
    """Return the case with actions in a box."""
    spec = EnvSpec.make(observation_shape=case.spec.observation_shape, action_low=[-1, 0],
                        action_high=[1, 2])  # fmt: skip
    return case._replace(spec=spec)


def draw_unit(inputs: int = 3) -> dict:
    """Draw the weights of a dense layer and a gated recurrent unit, biases too."""
    rng = np.random.default_rng(0)
    drawn = weights.init_gru(rng, "memory", LAYERS, inputs)
    return {name: x + 0.3 * rng.standard_normal(x.shape) for name, x in drawn.items()}


def run_unit(x, hidden, begins):
    return networks.gru(LAYERS, draw_unit(x.shape[-1]), "memory", x, hidden, begins)[0]


# --- the oracle -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WITH_MEMORY)
@pytest.mark.parametrize("actions", ["discrete", "continuous"])
def test_the_oracle_s_gradients_are_the_slopes(name, actions):
    case = of_network("ppo", name)
    case = continuous(case) if actions == "continuous" else case
    exact, sequences = on_policy_inputs(case)
    _, grads = oracle.gradients(case.spec, case.config, exact, sequences)
    assert set(grads) == set(oracle.trained(exact))
    assert any(key.startswith("memory/") for key in grads)
    rng = np.random.default_rng(1)
    for key, grad in grads.items():
        direction = rng.standard_normal(grad.shape)

        def loss(h, key=key, direction=direction):
            moved = {**exact, key: exact[key] + h * direction}
            return oracle.gradients(case.spec, case.config, moved, sequences)[0].loss

        slope = (loss(STEP) - loss(-STEP)) / (2.0 * STEP)
        assert slope == pytest.approx((grad * direction).sum(), abs=1e-6), key


def test_the_unit_is_torch_s():
    """cuDNN's variant: the reset gate scales the state's product, which has a bias of its own."""
    torch = pytest.importorskip("torch")
    unit, rng = draw_unit(), np.random.default_rng(2)
    x, hidden = rng.standard_normal((6, 4, 3)), rng.standard_normal((4, 5))
    with torch.no_grad():
        library = torch.nn.GRU(7, 5, dtype=torch.float64)
        names = ("weight_ih_l0", 1, "kernel"), ("bias_ih_l0", 1, "bias"), (
            "weight_hh_l0", 2, "kernel"), ("bias_hh_l0", 2, "bias")  # fmt: skip
        for name, layer, kind in names:
            getattr(library, name).copy_(torch.tensor(unit[f"memory/{layer}/{kind}"].T))
        dense = np.tanh(x @ unit["memory/0/kernel"] + unit["memory/0/bias"])
        want, _ = library(torch.tensor(dense), torch.tensor(hidden)[None])
    got = run_unit(x, hidden, np.zeros((6, 4), bool))
    np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=1e-14)


def test_an_episode_is_the_same_whatever_came_before_it():
    rng = np.random.default_rng(3)
    x, hidden = rng.standard_normal((6, 2, 3)), rng.standard_normal((2, 5))
    begins = np.zeros((6, 2), bool)
    begins[[2, 4], [0, 1]] = True  # the first environment's second episode, the second's
    got = run_unit(x, hidden, begins)
    for start, env in ((2, 0), (4, 1)):
        alone = run_unit(x[start:, env : env + 1], np.zeros((1, 5)), np.zeros((6 - start, 1), bool))
        np.testing.assert_allclose(got[start:, env], alone[:, 0], rtol=0, atol=1e-14)
    before = run_unit(x[:2], hidden, begins[:2])
    np.testing.assert_array_equal(got[:2], before)


def test_the_next_observation_is_valued_with_the_memory_before_any_reset():
    """Where no episode ends, V(next_obs) is the next step's value; at ends it is not zero's."""
    case = of_network("ppo", "gru")
    exact = to_float64(perturbed_weights(case))
    rollout, _ = cases_of("ppo").batch_near(case, exact)
    following = np.concatenate([rollout.obs[1:], rollout.next_obs[-1:]])
    rollout = rollout._replace(next_obs=following)  # as if no reset had changed an observation
    steps, envs = rollout.reward.shape
    features = oracle.normalize_obs(case.spec, case.config, exact, following)
    after = oracle.next_states(case.spec, case.config, exact, rollout, features)
    after = after.reshape(steps, envs, -1)
    states = oracle.states(case.spec, case.config, exact, rollout)
    ended = (rollout.terminated | rollout.truncated)[:-1]
    assert 0 < ended.sum() < ended.size
    np.testing.assert_allclose(after[:-1][~ended], states[1:][~ended], rtol=0, atol=1e-14)
    assert np.abs(after[:-1][ended] - states[1:][ended]).max(axis=-1).min() > 1e-6


def test_step_visits_whole_environments_in_the_order_of_the_permutation():
    case = of_network("ppo", "gru")
    exact = to_float64(perturbed_weights(case))
    rollout, noise = cases_of("ppo").batch_near(case, exact)
    assert noise.permutation.shape == (case.config.num_epochs, case.config.num_envs)
    expected, rows = oracle.prepare(case.spec, case.config, exact, rollout)
    assert rows.obs.shape[:2] == rows.begins.shape == (case.config.num_envs, case.config.num_steps)
    np.testing.assert_array_equal(rows.obs[2, 3], rollout.obs[3, 2].ravel())
    for picked in noise.permutation.reshape(case.config.updates_per_iteration, -1):
        batch = type(rows)(*(x[picked] for x in rows))
        expected, _ = oracle.update(case.spec, case.config, expected, batch)
    got, _ = oracle.step(case.spec, case.config, exact, rollout, noise)
    assert all((got[k] == expected[k]).all() for k in expected)


def test_initial_gates_are_orthogonal_one_by_one():
    drawn = weights.init_gru(np.random.default_rng(0), "memory", LAYERS, 3)
    kernel = drawn["memory/2/kernel"]
    for gate in np.split(kernel, 3, axis=1):
        np.testing.assert_allclose(gate.T @ gate, np.eye(5), atol=1e-6)
    assert drawn["memory/1/kernel"].shape == (7, 15)
    assert not drawn["memory/1/bias"].any()


# --- all frameworks -------------------------------------------------------------------------------


def examine(framework: str, name: str = "gru") -> ErrorTable:
    """Check losses, gradients, `act` and a step of a case with memory in float64."""
    runtime = inner_runtime(framework)
    errors, case = ErrorTable("ppo", framework, "float64"), of_network("ppo", name)
    for check in (cases_of("ppo").check_losses, parity.check_public):
        check(errors, runtime, case)
        if not errors.ok:
            break
    return errors


@pytest.fixture
def framework(request: pytest.FixtureRequest):
    """Skip frameworks that are not installed; reset JAX to 32 bits afterwards."""
    if registry.missing_packages(packages_of(request.param)):
        pytest.skip(f"{request.param} is not installed")
    yield request.param
    inner_runtime(request.param, precision="float32")


SLOW = pytest.mark.slow(share=0.1)
FRAMEWORKS = ["torch", *(pytest.param(f, marks=SLOW) for f in registry.FRAMEWORKS if f != "torch")]


@pytest.mark.parametrize("name", WITH_MEMORY)
@pytest.mark.parametrize("framework", FRAMEWORKS, indirect=True)
def test_every_framework_agrees_with_the_oracle(framework, name):
    errors = examine(framework, name)
    assert errors.ok, errors.failed()
    assert {"prepare: begins", "act: hidden", "gradients", "step: weights"} <= {
        entry["quantity"] for entry in errors.entries.values()
    }


@pytest.mark.slow(share=0.05)
@pytest.mark.parametrize(
    ("framework", "mode"),
    [
        ("torch", "compile"), ("tensorflow", "function"), ("tensorflow", "xla"), ("linen", "eager"),
        ("nnx", "jit"), ("nnx", "cached"), ("nnx", "split"), ("equinox", "jit"),
        ("equinox", "flat"),
    ],
    indirect=["framework"],
)  # fmt: skip
def test_every_mode_computes_the_same(framework, mode):
    """`act` with a memory, and a whole step, of which compiled code has the steps unrolled."""
    if reason := registry.why_mode_unavailable(framework, mode):
        pytest.skip(reason)
    runtime = registry.make_runtime(framework, mode, precision="float64")
    errors = ErrorTable("ppo", framework, "float64")
    parity.check_public(errors, runtime, of_network("ppo", "gru"))
    assert errors.ok, errors.failed()


@pytest.mark.slow(share=0.02)
@pytest.mark.parametrize("name", PLANTS)
@pytest.mark.parametrize("framework", registry.FRAMEWORKS, indirect=True)
def test_planted_bug_is_caught(framework, name, monkeypatch):
    plant_bug(monkeypatch, "ppo", framework, PLANTS[name])
    assert examine(framework).failed()


def test_certificates_have_the_cases_with_memory_where_there_can_be_one():
    def networks_of(algorithm):
        return [case.config.network for case in all_of(algorithm)]

    assert networks_of("ppo").count("gru") == len(WITH_MEMORY)
    assert "gru" not in networks_of("dqn")


# --- what cannot be -------------------------------------------------------------------------------


def test_what_cannot_be_is_refused_in_a_line():
    spec = EnvSpec.make(observation_shape=(4,), num_actions=2)
    config = replace(registry.reference_config("ppo", spec), network="gru")
    check = registry.config_module("ppo").check
    assert check(config) == config
    with pytest.raises(UsageError, match=r"whole environments: num_minibatches \(4\) must divide"):
        check(replace(config, num_envs=6))
    with pytest.raises(UsageError, match="the width of its memory: give at least one"):
        check(replace(config, hidden_sizes=()))
    for algorithm in ("dqn", "sac"):
        module = registry.config_module(algorithm)
        with pytest.raises(UsageError, match="no place for: use ppo, or another network"):
            module.check(module.Config(network="gru"))
