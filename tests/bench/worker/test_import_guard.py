"""The import fence lets in what is declared, and nothing else that it knows."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tiebreak import registry
from tiebreak.bench.machine.availability import required_packages
from tiebreak.bench.suite.plan import Cell
from tiebreak.core import import_guard


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_not_declared_is_refused():
    run(
        "from tiebreak.core import import_guard; import_guard.install(['torch'])\n"
        "for name in ('jax', 'jax.numpy', 'flax', 'tensorflow', 'keras'):\n"
        "    try: __import__(name)\n"
        "    except import_guard.RefusedImport as error:\n"
        "        assert error.name == name.split('.')[0], error\n"
        "    else: raise AssertionError(name)\n"
        "import json.tool, importlib.util\n"
        "importlib.util.find_spec('jax')  # torch asks where others lie: no exception, no import"
    )


def test_a_fence_that_comes_too_late_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", object())
    with pytest.raises(RuntimeError, match=r"too late: .*torch"):
        import_guard.install(["jax"])
    assert not any(isinstance(finder, import_guard.ImportGuard) for finder in sys.meta_path)


def cell(framework, task):
    framework, _, mode = framework.partition(" ")
    return Cell("ppo", framework, mode, task, "host", "train")


@pytest.mark.parametrize(
    ("framework", "task", "refused"),
    [
        ("torch", "gymnasium/Hopper-v4", {"jax", "flax", "tensorflow", "keras", "equinox"}),
        ("torch", "gymnax/CartPole-v1", {"tensorflow", "keras", "equinox", "optax"}),
        ("tensorflow", "gymnasium/Hopper-v4", {"jax", "flax", "torch", "equinox", "optax"}),
        ("equinox", "gymnasium/Hopper-v4", {"torch", "tensorflow", "keras", "flax"}),
        ("plain", "gymnasium/Hopper-v4", {"torch", "tensorflow", "keras", "flax", "equinox"}),
        ("keras torch", "gymnasium/Hopper-v4", {"jax", "tensorflow", "flax", "optax"}),
        ("keras jax", "gymnasium/Hopper-v4", {"torch", "tensorflow", "flax", "equinox"}),
        ("numpy", "gymnasium/Hopper-v4", import_guard.GUARDED),
    ],
)
def test_a_cell_declares_what_its_process_may_load(monkeypatch, framework, task, refused):
    monkeypatch.setattr(sys, "modules", {})
    monkeypatch.setattr(sys, "meta_path", [])
    allowed = registry.allowed_imports(required_packages(cell(framework, task)))
    one = import_guard.install(allowed)
    monkeypatch.undo()  # pytest cannot report a failure without its modules
    assert one.refused - {"tf_keras"} >= refused - {"tf_keras"}
    name, _, mode = framework.partition(" ")
    if name in registry.FRAMEWORKS:
        assert not set(registry.framework(name).packages_in(mode)) & one.refused


@pytest.mark.slow
@pytest.mark.parametrize(
    ("packages", "imported"),
    [
        ("['tensorflow']", "tensorflow, keras"),
        ("['torch']", "torch, torch._dynamo"),
        ("['jax', 'gymnax']", "gymnax"),
        ("['jax', 'brax']", "brax.envs"),
        ("['jax', 'mujoco_playground']", "mujoco_playground"),
        ("['jax', 'equinox', 'optax']", "equinox, optax"),
    ],
)
def test_frameworks_work_behind_the_fence(packages, imported):
    for package in imported.split(", "):
        pytest.importorskip(package)
    run(
        "from tiebreak import registry; from tiebreak.core import import_guard\n"
        f"f = import_guard.install(registry.allowed_imports({packages}))\n"
        f"import {imported}, sys\nassert not f.refused & set(sys.modules)"
    )
