"""Keras over its three backends: one per process, some algorithms, and what its functions round."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from verify.planted import Plant
from verify.runtimes import library_here
from verify.test_planted_bugs import examine, plant_bug

import tiebreak
from tiebreak import registry
from tiebreak.bench.suite import suite
from tiebreak.core.errors import UsageError
from tiebreak.core.types import EnvSpec
from tiebreak.envs.task import Task
from tiebreak.frameworks.keras import backend
from tiebreak.training.request import check_settings
from tiebreak.verify import certify
from tiebreak.verify.worker import Request, plan

BACKENDS = registry.FRAMEWORKS["keras"].modes
BOX = EnvSpec.make(observation_shape=(3,), action_low=[-1.0], action_high=[2.0])


def installed(library: str) -> None:
    """Skip where Keras or a backend of it is not installed."""
    if missing := registry.missing_packages(registry.FRAMEWORKS["keras"].packages_in(library)):
        pytest.skip(f"{missing} not installed")


def test_other_algorithms_are_refused_in_one_line(tmp_path):
    line = "framework 'keras' has no td3 \\(it has ppo, dqn, sac; td3 is in torch, tensorflow"
    with pytest.raises(UsageError, match=line) as caught:
        tiebreak.make_agent("td3", "keras", BOX)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=line):
        check_settings("td3", "keras", Task.parse("gymnasium/Hopper-v4"))
    race = tmp_path / "mine.toml"
    race.write_text(
        '[scales.quick]\n[[races]]\nalgorithm = "td3"\ntask = "gymnasium/Hopper-v4"\n'
        'probes = ["update"]\nrows = [{ framework = "torch" },\n  { framework = "keras" }]\n'
    )
    with pytest.raises(UsageError, match=r"mine.toml:7.*'keras' has no td3"):
        suite.load(str(race), None, 0)


def test_the_array_library_is_the_mode(monkeypatch):
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    assert registry.library("keras", "torch") == "torch"
    assert registry.library("keras") == "jax"
    assert registry.FRAMEWORKS["keras"].packages_in("torch") == ("torch", "keras")
    assert registry.extras("keras", "tensorflow") == ("keras", "tensorflow")
    assert "keras in mode jax" in registry.fused_frameworks()
    loaded = SimpleNamespace(config=SimpleNamespace(backend=lambda: "tensorflow"))
    monkeypatch.setitem(sys.modules, "keras", loaded)
    assert registry.library("keras") == "tensorflow"  # the process can have no other
    with pytest.raises(UsageError, match="has no mode 'eager' \\(valid: torch, tensorflow, jax\\)"):
        registry.library("keras", "eager")


def test_a_process_has_one_backend(monkeypatch):
    loaded = SimpleNamespace(config=SimpleNamespace(backend=lambda: "torch"))
    monkeypatch.setitem(sys.modules, "keras", loaded)
    with pytest.raises(UsageError, match="Keras computes with torch in this process") as caught:
        backend.load("jax")
    assert "KERAS_BACKEND=jax before" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_users_variable_is_kept(monkeypatch):
    for before in (None, "tensorflow"):
        if before:
            monkeypatch.setenv(backend.VARIABLE, before)
        with backend._variable("jax"):
            assert os.environ[backend.VARIABLE] == "jax"
        assert os.environ.get(backend.VARIABLE) == before


def test_a_certificate_has_a_worker_for_each_backend():
    requests, skipped = certify.plan(["ppo", "td3"], ["keras"], seed=0, quick=True)
    absent = {skip["mode"] for skip in skipped}
    assert {r.mode for r in requests} | absent == set(BACKENDS)
    assert {r.algorithm for r in requests} <= {"ppo"}
    jobs = list(plan(Request("sac", "keras", "float64", 0, False, "torch")))
    modes = {job.check.__name__: job.mode for job in jobs}
    assert modes["check_public"] in ("torch", "eager")
    assert (modes["check_losses"], modes["check_lockstep"]) == ("eager", "torch")


CHECK = """
import json, sys
from tiebreak import registry
from tiebreak.core import import_guard
from tiebreak.core.types import EnvSpec
from tiebreak.verify import parity
from tiebreak.verify.case import cases_of, fixed
from tiebreak.verify.compare import ErrorTable
from tiebreak.verify.network_cases import of_network

library = sys.argv[1]
import_guard.install(registry.allowed_imports(registry.FRAMEWORKS["keras"].packages_in(library)))
runtime = registry.make_runtime("keras", library, "float64")
agents = []  # TensorFlow counts the graphs that are there, and they go with their agent
make_agent = runtime.agent
runtime.agent = lambda raw: agents.append(make_agent(raw)) or agents[-1]
failed = []
for algorithm in sys.argv[2:]:
    errors = ErrorTable(algorithm, "keras", "float64")
    for actions in cases_of(algorithm).ACTIONS:
        parity.check_public(errors, runtime, fixed(algorithm, actions))
    if algorithm == "ppo":  # the steps of a memory are unrolled in the program
        parity.check_public(errors, runtime, of_network("ppo", "gru"))
    failed += errors.failed()
found = {"failed": failed, "mode": runtime.mode, "compiled": runtime.compile_count(),
         "fallbacks": sum(runtime.fallbacks().values())}
print(json.dumps(found))
"""


@pytest.mark.slow(share=0.05)
@pytest.mark.parametrize("library", BACKENDS)
def test_compiled_steps_agree_with_the_oracle(library):
    """In a process of its own, which may import nothing but Keras and that library."""
    installed(library)
    algorithms = ["dqn", "sac"] if library == "torch" else ["ppo", "dqn", "sac"]
    done = subprocess.run(
        [sys.executable, "-c", CHECK, library, *algorithms],
        capture_output=True, text=True, timeout=600, check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["failed"] == []
    assert found["mode"] == library
    assert found["compiled"] > 0
    assert found["fallbacks"] == 0


def epsilon_before_the_correction(adam):
    """Add ε as keras.optimizers.Adam does, to √v before it is corrected."""

    def wrong(grads, state, weights, rate, eps):
        count = float(state.count)
        return adam(grads, state, weights, rate, eps / (1.0 - 0.999**count) ** 0.5)

    return wrong


def standing_count(adam):
    """Return the state without the count of this step."""

    def wrong(grads, state, *rest):
        weights, new = adam(grads, state, *rest)
        return weights, new._replace(count=state.count - 1)

    return wrong


PLANTS = {
    "epsilon of Keras's own Adam": Plant("adam", epsilon_before_the_correction),
    "count that stands still": Plant(
        "adam",
        lambda f: lambda g, s, *a: (f(g, s, *a)[0], f(g, s, *a)[1]._replace(count=s.count - 1)),
    ),
    "targets that are the networks": Plant(
        "update_targets", lambda f: lambda agent, state, name, tau: f(agent, state, name, 1.0)
    ),
}
"""Bugs of what only this framework has: its own optimizer, and states that are returned anew."""


@pytest.mark.slow(share=0.3)
@pytest.mark.parametrize("name", PLANTS)
def test_planted_bug_is_caught(name, monkeypatch):
    installed(library_here())
    plant_bug(monkeypatch, "sac", "keras", PLANTS[name])
    assert examine("sac", "keras").failed()


ROUNDED = """
import sys
import numpy as np
from tiebreak import registry
registry.make_runtime("keras", sys.argv[1], "float64")
import keras
from tiebreak.frameworks.keras import ops
x = keras.ops.convert_to_tensor(np.array([-30.0, 0.1, 12.0]), "float64")
exact = np.log1p(np.exp([-30.0, 0.1, 12.0]))
assert np.abs(keras.ops.convert_to_numpy(ops._softplus(x)) - exact).max() < 1e-15
clipped = keras.ops.convert_to_numpy(ops.clip(x, -0.7, 0.7))
assert (clipped == [-0.7, 0.1, 0.7]).all(), clipped - [-0.7, 0.1, 0.7]
rate = keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(0.3, "float64"))
assert rate == 0.3
"""


@pytest.mark.slow(share=0.1)
@pytest.mark.parametrize("library", BACKENDS)
def test_numbers_of_python_keep_all_digits(library):
    installed(library)
    done = subprocess.run(
        [sys.executable, "-c", ROUNDED, library],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
