"""The suite `fasttd3`: what it races, what it leaves out without a GPU, and --device."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from bench import fakes
from bench.suite.test_suite import MINIMAL, load

from tiebreak import registry
from tiebreak.bench.machine import nvidia_smi
from tiebreak.bench.machine.availability import why_unavailable
from tiebreak.bench.manager import manager, store
from tiebreak.bench.manager.worker_env import worker_environment
from tiebreak.bench.suite import suite
from tiebreak.bench.suite.plan import Cell, Job
from tiebreak.bench.worker import main as worker
from tiebreak.core.errors import MissingDevice, UsageError
from tiebreak.report.published import _calls_per_s

SUBJECT = "bench.fakes:make_subject"
ROBOTS = {"playground/G1JoystickFlatTerrain", "playground/T1JoystickFlatTerrain"}


@pytest.fixture(params=[[], [["NVIDIA H100 80GB HBM3"]]], ids=["no GPU", "a GPU"])
def gpus(request, monkeypatch):
    """What nvidia-smi finds."""
    nvidia_smi.why_unavailable.cache_clear()
    monkeypatch.setattr(nvidia_smi, "query", lambda *fields: request.param)
    yield request.param
    nvidia_smi.why_unavailable.cache_clear()


def cells(scale="quick", **where):
    found = suite.load("fasttd3", scale, 0).cells
    return [c for c in found if all(getattr(c, k) == v for k, v in where.items())]


def test_the_updates_alone_are_raced_by_all_five_at_batch_4096():
    found = cells(probe="update", race="batch 4096")
    assert len({c.framework for c in found}) == 5
    assert {c.mode for c in found if c.framework == "torch"} == {"eager", "compile"}
    assert {c.config["batch_size"] for c in found} == {4096}
    assert {c.device for c in found} == {"cpu"}


def test_an_iteration_is_split_into_its_parts():
    found = cells(task="playground/CheetahRun")
    assert {c.probe for c in found} == {"env", "forward", "interact", "update", "iteration"}
    loops = {c.framework: c.loop for c in found}
    assert loops == {"torch": "host", "nnx": "fused", "jax": "device"}
    assert {c.num_envs for c in found} == {64}


def test_robots_are_for_a_gpu_in_every_mode_and_both_precisions():
    found = [c for c in cells() if c.task.partition("@")[0] in ROBOTS]
    assert {(c.device, c.num_envs) for c in found} == {("gpu", 1024)}
    assert {c.task.partition("@")[2] for c in found} == {"", "warp"}
    modes = {c.mode for c in found if c.framework == "torch" and c.precision == "float32"}
    assert modes == {"eager", "compile", "cudagraph"}
    assert {"torch", "nnx"} <= {c.framework for c in found if c.precision == "bfloat16"}


def test_without_a_gpu_its_cells_are_left_out_with_the_reason(gpus, monkeypatch):
    monkeypatch.setattr(registry, "missing_packages", lambda packages: [])
    monkeypatch.setattr(registry, "why_mode_unavailable", lambda framework, mode: "")
    for cell in cells():
        reason = why_unavailable(cell)
        if gpus or cell.device == "cpu":
            assert reason == ""
        else:
            assert reason == "device 'gpu' is not here: nvidia-smi is missing, or finds no GPU"


def test_the_same_race_on_another_device(tmp_path):
    text = MINIMAL.replace("task =", 'device = ["cpu", "gpu"]\ntask =')
    path = tmp_path / "mine.toml"
    path.write_text(text)
    assert len(load(tmp_path, text).cells) == 12
    moved = suite.load(str(path), None, 0, "cuda:1").cells
    assert {c.device for c in moved} == {"cuda:1"}
    assert len(moved) == len({c.id for c in moved}) == 6


def test_a_device_that_is_asked_for_and_not_here_is_refused(gpus, tmp_path):
    mine, out = fakes.suite(tmp_path, "fine"), tmp_path / "out"
    if gpus:
        manager._check_device("gpu")
        return
    with pytest.raises(UsageError, match=r"'gpu' is not here: .* or use --device cpu"):
        manager.run_suite(mine, out, "smoke", progress=False, device="gpu", subject=SUBJECT)
    assert not out.exists()


def test_a_device_that_is_none_is_refused():
    with pytest.raises(UsageError, match="unknown device 'gqu'; did you mean 'gpu'"):
        manager._check_device("gqu")


def test_a_run_goes_on_with_the_device_that_it_began_with(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", fakes.python_path())
    mine, out = fakes.suite(tmp_path, "fine"), tmp_path / "out"
    for resume in (False, True):
        device = None if resume else "cpu"
        manager.run_suite(
            mine, out, "smoke", resume, progress=False, device=device, subject=SUBJECT
        )
    there = store.read_suite(out)
    visited = [r["status"] for r in store.read_records(out) if r["kind"] == "visit"]
    assert visited == ["ok"] * 4  # two probes in two blocks, once
    assert there["device"] == "cpu"
    assert there["command"].endswith("--device cpu")


def test_a_framework_that_does_not_see_the_device_is_missing_not_failed():
    said = "torch sees no device 'gpu' here (it sees: cpu)"
    found = worker._failure(MissingDevice(said))
    assert (found["status"], found["error"]) == ("missing", said)
    assert worker._failure(UsageError(said))["status"] == "failed"


@pytest.mark.parametrize("framework", ["torch", "nnx"])
def test_a_simulator_beside_torch_leaves_it_room_on_the_gpu(tmp_path, framework):
    cell = Cell("fasttd3", framework, "", "playground/CheetahRun", "host", "update", device="gpu")
    job = Job((cell,), threads=2, hash_seed=5)
    env = worker_environment(job, tmp_path / "visit", tmp_path / "cache")
    assert ("XLA_PYTHON_CLIENT_PREALLOCATE" in env) == (framework == "torch")
    assert "JAX_PLATFORMS" not in env


def test_iterations_per_second_are_calls():
    cell = SimpleNamespace(seconds_per_unit=1e-4, per_call={"units": 1024.0})
    assert _calls_per_s(cell) == pytest.approx(1 / 0.1024)
    assert _calls_per_s(SimpleNamespace(seconds_per_unit=1e-4, per_call={})) is None
