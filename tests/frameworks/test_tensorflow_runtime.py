"""TensorFlow's runtime: draws, conversions, settings, devices, and what gets compiled when."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from tiebreak import registry  # noqa: E402
from tiebreak.algorithms.ppo import data  # noqa: E402
from tiebreak.core.errors import UsageError  # noqa: E402
from tiebreak.core.noise import Draw  # noqa: E402
from tiebreak.core.types import EnvSpec  # noqa: E402
from tiebreak.verify import case as case_data  # noqa: E402
from tiebreak.verify import ppo_cases as cases  # noqa: E402


class Inner(NamedTuple):
    order: Draw


class Outer(NamedTuple):
    normal: Draw
    gumbel: Draw
    uniform: Draw
    again: Draw
    inner: Inner


DRAWS = Outer(
    Draw("normal", (100, 200)),
    Draw("gumbel", (100, 200)),
    Draw("uniform", (100, 200)),
    Draw("uniform", (100, 200)),
    Inner(Draw("permutation", (5, 40))),
)


@pytest.fixture
def runtime():
    return registry.make_runtime("tensorflow", "function")


def test_draws_are_a_function_of_seed_and_index(runtime):
    def leaves(seed, index):
        out = runtime.to_numpy(runtime.draw(DRAWS, seed, index))
        return [*out[:4], out.inner.order]

    base = leaves(3, 5)
    assert all((a == b).all() for a, b in zip(base, leaves(3, 5), strict=True))
    for other in (leaves(3, 6), leaves(4, 5)):
        assert all((a != b).mean() > 0.9 for a, b in zip(base, other, strict=True))
    assert [x.dtype for x in base] == [np.float32] * 4 + [np.int32]


def test_draws_have_their_distributions(runtime):
    normal, gumbel, uniform, again, _ = runtime.to_numpy(runtime.draw(DRAWS, 0, 0))
    for found, mean, std in (
        (normal, 0.0, 1.0),
        (gumbel, np.euler_gamma, np.pi / np.sqrt(6)),
        (uniform, 0.5, 1 / np.sqrt(12)),
    ):
        assert found.mean() == pytest.approx(mean, abs=5 * std / np.sqrt(found.size))
        assert found.std() == pytest.approx(std, rel=0.05)
    assert uniform.min() >= 0.0
    assert uniform.max() < 1.0
    assert abs(np.corrcoef(again.ravel(), uniform.ravel())[0, 1]) < 0.04


def test_every_permutation_is_equally_likely(runtime):
    drawn = [runtime.draw(Draw("permutation", (2, 6, 3)), 0, index) for index in range(100)]
    rows = np.concatenate(runtime.to_numpy(drawn)).reshape(-1, 3)
    counts = np.array(list(Counter(map(tuple, rows)).values()))
    assert (np.sort(rows, axis=-1) == np.arange(3)).all()
    assert len(counts) == 6
    assert ((counts - 200) ** 2 / 200).sum() < 25.7  # chi-square, 5 degrees of freedom, 1e-4


def test_integers_fill_their_range(runtime):
    index = runtime.to_numpy(runtime.draw(Draw("integers", (20_000,)), 0, 0))
    assert (index.dtype, index.min() >= 0) == (np.int32, True)
    counts = np.histogram(index, bins=8, range=(0, 2**31))[0]
    assert abs(counts - 2500).max() < 5 * np.sqrt(2500)
    assert np.mean(index % 2) == pytest.approx(0.5, abs=0.02)


def test_arrays_keep_their_types_but_float64(runtime):
    for given, kept in (("float64", "float32"), ("int32", "int32"), ("bool", "bool")):
        assert runtime.asarray(np.ones(3, given)).dtype.name == kept
    precise = registry.make_runtime("tensorflow", "function", "float64")
    assert precise.asarray(np.ones(3, np.float32)).dtype == tf.float64


def test_stack_and_to_numpy_are_inverse(runtime):
    rng = np.random.default_rng(0)
    acts = [data.Act(*rng.standard_normal((4, 2)).astype(np.float32)) for _ in range(3)]
    stacked = runtime.stack([data.Act(*map(runtime.asarray, act)) for act in acts])
    found = runtime.to_numpy({"a": [stacked]})["a"][0]
    assert isinstance(found, data.Act)
    np.testing.assert_array_equal(found, np.stack(acts, axis=1))


def test_arrays_cross_by_dlpack_without_a_copy(runtime):
    ours = runtime.asarray(np.arange(6, dtype=np.float32))
    theirs = np.from_dlpack(runtime.to_dlpack(ours))
    assert np.shares_memory(theirs, runtime.to_numpy(ours))
    source = np.arange(64, dtype=np.int32)
    assert (runtime.to_numpy(runtime.from_dlpack(source)) == source).all()
    assert runtime.from_dlpack(ours) is ours


@pytest.mark.parametrize("device", ["tpu", "cuda:7", "cpu:x"])
def test_a_device_that_is_not_there_is_a_clear_error(device):
    with pytest.raises(UsageError, match=r"sees no device .* \(it sees: cpu:0"):
        registry.make_runtime("tensorflow", "function", device=device)


def test_bfloat16_is_of_networks_and_refused_where_they_have_it_not():
    runtime = registry.make_runtime("tensorflow", "function", "bfloat16")
    assert (runtime.build().dtype, runtime.build().network_dtype) == ("float32", "bfloat16")
    spec = EnvSpec.make(observation_shape=(3,), num_actions=2)
    with pytest.raises(UsageError, match="dqn has no precision 'bfloat16'"):
        registry.make_raw_agent("dqn", spec, None, runtime)


@pytest.mark.parametrize(("precision", "tf32"), [("float32", False), ("tf32", True)])
def test_settings_are_read_back(precision, tf32):
    runtime = registry.make_runtime("tensorflow", "function", precision)
    assert runtime.settings()["tf32"] is tf32
    assert runtime.settings()["device"] == "/CPU:0"
    assert runtime.memory() == {}
    registry.make_runtime("tensorflow", "function")


THREADS = """
import json
from tiebreak import registry
runtime = registry.make_runtime("tensorflow", "function")
runtime.set_threads(1)
runtime.asarray([1.0])
runtime.set_threads(2)  # too late, and said by the settings
print(json.dumps(runtime.settings()))
"""


def test_threads_are_set_while_they_can_be():
    command = [sys.executable, "-c", THREADS]
    out = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    settings = json.loads(out.splitlines()[-1])
    assert (settings["intra_op_threads"], settings["inter_op_threads"]) == (1, 1)


def make_actor(runtime, case):
    raw = registry.make_raw_agent("ppo", case.spec, case.config, runtime)
    agent, actor = runtime.agent(raw), runtime.compile_act(raw)
    state, (obs, noise) = agent.load(case_data.perturbed_weights(case)), case_data.act_inputs(case)
    block = np.stack([noise, -noise, 2 * noise, 0 * noise])
    return agent, state, obs, block, lambda t: actor(state, obs, block, t)


@pytest.mark.parametrize("mode", ["eager", "function", "xla"])
def test_actor_takes_row_t_of_the_block(mode):
    runtime, case = registry.make_runtime("tensorflow", mode), cases.fixed("continuous")
    agent, state, obs, block, actor = make_actor(runtime, case)
    actor(0)
    traces = runtime.compile_count()
    found = [actor(t).raw_action for t in range(4)]
    assert runtime.compile_count() == traces
    for t, action in enumerate(found):
        expected = agent.act(state, obs, block[t]).raw_action
        np.testing.assert_allclose(action, expected, rtol=1e-6, atol=1e-6)


def test_a_new_shape_is_counted_as_a_compilation(runtime):
    agent, state, obs, block, _ = make_actor(runtime, cases.fixed("discrete"))
    agent.act(state, obs, block[0])
    before = runtime.compile_count()
    agent.act(state, obs, block[1])
    assert runtime.compile_count() == before
    agent.act(state, obs[:2], block[0][:2])
    assert runtime.compile_count() == before + 1


XLA = """
from frameworks.test_tensorflow_runtime import case_data, cases, data, make_actor, registry
runtime, case = registry.make_runtime("tensorflow", "xla"), cases.fixed("continuous")
agent, state, obs, block, actor = make_actor(runtime, case)
for t in range(4):
    actor(t)
for index in range(3):
    batch, _ = cases.batch_near(case, case_data.perturbed_weights(case), index)
    noise = runtime.draw(data.step_noise(case.spec, case.config), 0, index)
    state, _ = agent.step(state, batch, noise)
"""


@pytest.mark.slow
def test_xla_compiles_act_and_step_once(tmp_path):
    """Traces do not show it: XLA compiles anew for each value that it takes as a constant."""
    where = {"cwd": "tests", "check": True, "timeout": 300}
    flags = f"--xla_dump_to={tmp_path} --xla_dump_hlo_as_text"
    subprocess.run([sys.executable, "-c", XLA], env={**os.environ, "XLA_FLAGS": flags}, **where)
    compiled = list(tmp_path.glob("*before_optimizations.txt"))
    assert len(compiled) == 2, sorted(path.name for path in compiled)
