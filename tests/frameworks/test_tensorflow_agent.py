"""PPO in TensorFlow against the oracle, against Linen, and against its own contract."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from tiebreak import registry  # noqa: E402
from tiebreak.algorithms.ppo import ppo_numpy as oracle  # noqa: E402
from tiebreak.frameworks.numpy.ops import to_float64  # noqa: E402
from tiebreak.frameworks.tensorflow import ops  # noqa: E402
from tiebreak.verify import case as case_data  # noqa: E402
from tiebreak.verify import ppo_cases as cases  # noqa: E402

ACTIONS, MODES = ("discrete", "continuous"), ("eager", "function", "xla")


def make(case, mode, precision="float32"):
    return registry.make_agent(
        "ppo", "tensorflow", case.spec, case.config, mode=mode, precision=precision
    )


def worst(found, expected) -> float:
    assert set(found) == set(expected)
    return max(np.abs(found[k] - expected[k]).max() for k in expected)


def run_three_steps(agent, case):
    """Three updates on recorded batches, from weights in mid-training."""
    weights = case_data.perturbed_weights(case)
    state = agent.load(weights)
    for i in range(3):
        state, metrics = agent.step(state, *cases.batch_near(case, weights, i))
    return agent.dump(state), metrics


def run_oracle(case):
    start = case_data.perturbed_weights(case)
    weights = to_float64(start)
    for i in range(3):
        batch, noise = cases.batch_near(case, start, i)
        weights, metrics = oracle.step(case.spec, case.config, weights, batch, noise)
    return weights, metrics


@pytest.mark.parametrize("actions", ACTIONS)
@pytest.mark.parametrize("mode", MODES)
def test_three_steps_are_the_oracles_in_float64(mode, actions):
    case = cases.fixed(actions)
    found, metrics = run_three_steps(make(case, mode, "float64"), case)
    expected, expected_metrics = run_oracle(case)
    assert worst(found, expected) <= 1e-10
    np.testing.assert_allclose([float(m) for m in metrics], expected_metrics, rtol=0, atol=1e-10)


@pytest.mark.parametrize("change", [{"optimizer": "sgd"}, {"anneal_lr": False}, {"clip_value": 0}])
def test_other_settings_are_the_oracles_in_float64(change):
    case = cases.fixed("discrete")
    case = case._replace(config=dataclasses.replace(case.config, **change))
    found, _ = run_three_steps(make(case, "function", "float64"), case)
    assert worst(found, run_oracle(case)[0]) <= 1e-10


@pytest.mark.parametrize("actions", ACTIONS)
def test_act_is_the_oracles_in_float64(actions):
    case = cases.fixed(actions)
    agent, weights = make(case, "function", "float64"), case_data.perturbed_weights(case)
    act = agent.act(agent.load(weights), *case_data.act_inputs(case))
    expected = oracle.act(case.spec, case.config, to_float64(weights), *case_data.act_inputs(case))
    for found, wanted in zip(act, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10)


LINEN = """
import sys
import numpy as np
from frameworks.test_tensorflow_agent import registry, run_three_steps
from tiebreak.verify import ppo_cases as cases
case = cases.fixed(sys.argv[1])
agent = registry.make_agent("ppo", "linen", case.spec, case.config)
np.savez(sys.argv[2], **run_three_steps(agent, case)[0])
"""


@pytest.mark.slow
@pytest.mark.parametrize("actions", ACTIONS)
def test_agrees_with_linen_and_loads_what_linen_dumped(actions, tmp_path):
    pytest.importorskip("flax")
    path = tmp_path / "linen.npz"
    where = {"cwd": "tests", "check": True, "timeout": 300}
    subprocess.run([sys.executable, "-c", LINEN, actions, str(path)], **where)
    with np.load(path) as file:
        theirs = dict(file)
    case = cases.fixed(actions)
    agent = make(case, "function")
    assert worst(run_three_steps(agent, case)[0], theirs) <= 1e-5
    again = agent.dump(agent.load(theirs))
    assert all((again[k] == theirs[k]).all() and again[k].dtype == theirs[k].dtype for k in theirs)


@pytest.mark.parametrize("actions", ACTIONS)
def test_load_gives_back_exactly_what_dump_wrote(actions):
    case = cases.fixed(actions)
    agent, weights = make(case, "eager"), case_data.perturbed_weights(case)
    found = agent.dump(agent.load(weights))
    assert sorted(found) == sorted(weights)
    for name, value in weights.items():
        np.testing.assert_array_equal(found[name], value)
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)


def test_dumped_arrays_stay_as_they_are_when_training_goes_on():
    case = cases.fixed("continuous")
    agent = make(case, "function")
    state = agent.init(0)
    before = agent.dump(state)
    copy = {k: v.copy() for k, v in before.items()}
    state, _ = agent.step(state, *cases.batch_near(case, before))
    assert all((before[k] == copy[k]).all() for k in copy)
    assert worst(agent.dump(state), before) > 0


@pytest.mark.parametrize("mode", ["function", "xla"])
def test_states_share_one_trace_and_nothing_else(mode):
    case = cases.fixed("continuous")
    runtime = registry.make_runtime("tensorflow", mode)
    agent = runtime.agent(registry.make_raw_agent("ppo", case.spec, case.config, runtime))
    inputs = case_data.act_inputs(case)
    batch = cases.batch_near(case, case_data.perturbed_weights(case))
    first, second = agent.init(1), agent.init(2)
    alone = agent.dump(second)
    first, _ = agent.step(first, *batch)
    act_first = agent.act(first, *inputs)
    traces = runtime.compile_count()
    assert worst(agent.dump(second), alone) == 0
    act_second = agent.act(second, *inputs)
    assert np.abs(act_second.value - act_first.value).max() > 1e-3
    second, _ = agent.step(second, *batch)
    reference = agent.load(alone)
    del first  # the state that was traced may go
    reference, _ = agent.step(reference, *batch)
    assert worst(agent.dump(second), agent.dump(reference)) == 0
    assert runtime.compile_count() == traces


@pytest.mark.parametrize("mode", ["eager", "function"])
def test_numpy_of_other_types_is_accepted(mode):
    """MuJoCo's observations are float64."""
    case = cases.fixed("continuous")
    agent = make(case, mode)
    state, (obs, noise) = agent.load(case_data.perturbed_weights(case)), case_data.act_inputs(case)
    expected = agent.act(state, obs, noise)
    found = agent.act(state, obs.astype(np.float64), noise.astype(np.float64))
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_weights_cut_out_of_the_vector_are_those_packed_into_it():
    layout = {"a": (3, 5), "b": (7,), "c": (16,), "d": ()}
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal(shape) for name, shape in layout.items()}
    found = ops.unpack(tf.constant(ops.pack(arrays, layout)), layout)
    for name, value in arrays.items():
        np.testing.assert_array_equal(found[name], value)
