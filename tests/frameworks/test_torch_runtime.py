"""The torch runtime: devices, precisions, modes, noise, conversions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tiebreak import registry
from tiebreak.core.errors import UsageError
from tiebreak.core.noise import Draw
from tiebreak.core.types import Agent, EnvSpec, RunningStats

torch = pytest.importorskip("torch")


@pytest.fixture
def runtime():
    return registry.make_runtime("torch", "eager")


def test_an_absent_device_is_refused_with_those_that_are_there():
    with pytest.raises(UsageError, match=r"torch sees no device 'cuda:99' here \(it sees: cpu"):
        registry.make_runtime("torch", "eager", device="cuda:99")


def test_cudagraph_on_a_cpu_is_refused():
    with pytest.raises(UsageError, match="'cudagraph' needs a CUDA device"):
        registry.make_runtime("torch", "cudagraph", device="cpu")


def test_compile_without_a_compiler_is_refused(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UsageError, match=r"needs a C\+\+ compiler"):
        registry.make_runtime("torch", "compile")
    registry.make_runtime("torch", "eager")  # needs none


def test_bfloat16_is_of_networks_and_refused_where_they_have_it_not():
    runtime = registry.make_runtime("torch", "eager", "bfloat16")
    assert (runtime.build().dtype, runtime.build().network_dtype) == ("float32", "bfloat16")
    spec = EnvSpec.make(observation_shape=(3,), num_actions=2)
    with pytest.raises(UsageError, match="dqn has no precision 'bfloat16'"):
        registry.make_raw_agent("dqn", spec, None, runtime)


@pytest.mark.parametrize(("precision", "kind", "flag"), [("float32", "highest", False),
                                                         ("tf32", "high", True)])  # fmt: skip
def test_precision_is_set_and_read_back(precision, kind, flag):
    settings = registry.make_runtime("torch", "eager", precision).settings()
    assert settings["matmul_precision"] == kind
    assert settings["cudnn_tf32"] is settings["cuda_matmul_tf32"] is flag
    registry.make_runtime("torch", "eager")  # leave the process as it was


def test_threads_are_set_and_read_back(runtime):
    before = runtime.settings()["threads"]
    runtime.set_threads(1)
    assert runtime.settings()["threads"] == torch.get_num_threads() == 1
    torch.set_num_threads(before)


@pytest.mark.parametrize(("rows", "threads"), [(1, 1), (256, 1), (257, 2)])
def test_few_observations_are_acted_on_with_one_thread(runtime, rows, threads):
    before, seen = torch.get_num_threads(), []

    def act(state, obs, noise):
        seen.append(torch.get_num_threads())
        return obs

    def fails(state, obs, noise):
        raise UsageError("no action")

    runtime.set_threads(2)
    nothing: Any = None
    raw, failing = (Agent(nothing, fn, nothing, nothing, nothing) for fn in (act, fails))
    obs, noise = torch.zeros(rows, 3), torch.zeros(1, rows, 3)
    runtime.compile_act(raw)(None, obs, noise, 0)
    runtime.agent(raw).act(None, obs, noise[0])
    with pytest.raises(UsageError, match="no action"):
        runtime.compile_act(failing)(None, obs, noise, 0)
    assert seen == [threads] * 2
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_draws_depend_on_seed_and_index_alone(runtime):
    draws = Draw("normal", (3, 2)), Draw("gumbel", (5,)), Draw("permutation", (2, 7))
    first, other = runtime.draw(draws, 1, 2), registry.make_runtime("torch", "eager")
    other.draw(draws, 5, 5)  # what was drawn before does not matter
    for a, b in zip(first, other.draw(draws, 1, 2), strict=True):
        assert torch.equal(a, b)
    for seed, index in ((1, 3), (2, 2)):
        assert not torch.equal(first[0], runtime.draw(draws, seed, index)[0])


def test_draws_have_the_distributions_they_are_named_after(runtime):
    n = 40_000
    kinds = {"normal": (0.0, 1.0), "gumbel": (0.5772, np.pi / np.sqrt(6)), "uniform": (0.5, 0.2887)}
    for kind, (mean, std) in kinds.items():
        x = runtime.draw((Draw(kind, (n,)),), 0, 0)[0].numpy()
        assert x.dtype == np.float32
        assert abs(x.mean() - mean) < 5 * std / np.sqrt(n), kind
        assert abs(x.std() - std) < 0.02 * std, kind


def test_integers_fill_their_range(runtime):
    index = runtime.draw((Draw("integers", (20_000,)),), 0, 0)[0].numpy()
    assert (index.dtype, index.min() >= 0) == (np.int32, True)
    counts = np.histogram(index, bins=8, range=(0, 2**31))[0]
    assert abs(counts - 2500).max() < 5 * np.sqrt(2500)
    assert np.mean(index % 2) == pytest.approx(0.5, abs=0.02)


def test_permutations_are_permutations_and_uniform(runtime):
    rows = runtime.draw((Draw("permutation", (3, 2000, 4)),), 0, 0)[0]
    assert rows.dtype == torch.int32
    assert tuple(rows.shape) == (3, 2000, 4)
    assert (rows.sort(-1).values == torch.arange(4)).all()
    counts = np.unique(rows.reshape(-1, 4).numpy(), axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert abs(counts - 250).max() < 80  # 5 standard deviations


def test_asarray_shares_memory_and_casts_float64_only(runtime):
    array = np.zeros(3, np.float32)
    shared = runtime.asarray(array)
    array[0] = 1.0
    assert shared[0] == 1.0
    assert runtime.asarray(np.zeros(3)).dtype == torch.float32
    assert runtime.asarray(np.zeros(3, np.int32)).dtype == torch.int32
    assert runtime.asarray(np.zeros(3, bool)).dtype == torch.bool
    exact = registry.make_runtime("torch", "eager", "float64")
    assert exact.asarray(np.zeros(3)).dtype == torch.float64


def test_asarray_copies_read_only_arrays(runtime):
    array = np.zeros(3, np.float32)
    array.flags.writeable = False
    runtime.asarray(array)[0] = 1.0  # would warn, and write through, without the copy
    assert array[0] == 0.0


def test_trees_to_numpy_and_stacked(runtime):
    tree = (torch.ones(2, requires_grad=True), {"a": torch.zeros(1)}, 3)
    one, named, plain = runtime.to_numpy(tree)
    assert isinstance(one, np.ndarray)
    assert isinstance(named["a"], np.ndarray)
    assert plain == 3
    moments = RunningStats(torch.ones(()), torch.ones(2), torch.zeros(2))
    stacked = runtime.stack([moments, moments, moments])
    assert type(stacked) is RunningStats
    assert stacked.mean.shape == (3, 2)


def test_from_dlpack_shares_memory(runtime):
    array = np.arange(4.0)
    seen = runtime.from_dlpack(array)
    array[0] = 9.0
    assert seen[0] == 9.0
