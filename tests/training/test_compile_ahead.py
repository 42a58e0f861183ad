"""Mode `auto`: eager at first, compiled from a fixed update on, and compiled meanwhile."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file
from training.fakes import CONFIG, FakeLoop

import tiebreak
from tiebreak import registry
from tiebreak.core import config as configs
from tiebreak.envs.task import Task
from tiebreak.training import compile_ahead
from tiebreak.training.train_loop import Change, run_intervals

TOTAL = 992
"""Steps of CONFIG: 62 iterations of 16."""


class FakeCompiler:
    """A loop in mode `auto`; remembers after how many steps it was told to compile."""

    def __init__(self, mode: str = registry.AUTO):
        self.loop = FakeLoop()
        self.loop.runtime.mode = mode
        self.loop.runtime.start_compiling = lambda: self.events.append(("start", self.loop.steps))
        self.events: list[tuple[str, int]] = []
        self.stop = threading.Event()
        self.is_stopped_meanwhile = False

    def wait(self, stop: threading.Event) -> None:
        self.events.append(("wait", self.loop.steps))
        if self.is_stopped_meanwhile:
            stop.set()

    def run(self, compile_at: int) -> list:
        intervals = run_intervals(
            self.loop,
            TOTAL,
            (),
            self.stop,
            announce=lambda text: self.events.append((text, self.loop.steps)),
            change=Change(compile_at, self.wait),
        )
        return list(intervals)


@pytest.mark.parametrize("steps", [16, 320, TOTAL - 16])
def test_it_changes_once_and_exactly_where_it_has_to(steps):
    fake = FakeCompiler()
    intervals = fake.run(steps)
    compiling = ("compiling the update …", steps)
    assert fake.events == [compiling, ("wait", steps), ("start", steps)]
    ends = np.cumsum([interval.steps for interval in intervals])
    assert steps in ends
    assert ends[-1] == TOTAL
    # The rate is that of the compiled program, without the iteration that compiles.
    after = ends > steps
    is_steady = np.array([interval.is_steady for interval in intervals])
    assert not is_steady[~after].any()
    assert is_steady[after].tolist() == [False] + [True] * (after.sum() - 1)


def test_it_changes_at_once_in_a_training_that_goes_on_behind_that_point():
    fake = FakeCompiler()
    fake.loop.steps = 640
    fake.run(320)
    assert [event for event in fake.events if event[0] == "start"] == [("start", 640)]


def test_without_such_a_point_it_stays_eager_and_its_rate_counts():
    fake = FakeCompiler()
    assert [interval.is_steady for interval in fake.run(0)][1:]
    assert fake.events == []


def test_a_training_that_is_stopped_while_it_waits_runs_no_further():
    fake = FakeCompiler()
    fake.is_stopped_meanwhile = True
    intervals = fake.run(320)
    assert sum(interval.steps for interval in intervals) == 320
    assert fake.loop.steps == 320


def auto_loop(mode: str = registry.AUTO, framework: str = "torch", **settings):
    config = dataclasses.replace(CONFIG, **settings)
    runtime = SimpleNamespace(mode=mode, framework=framework, device="cpu")
    return SimpleNamespace(config=config, runtime=runtime)


def test_the_point_depends_on_updates_alone(monkeypatch):
    monkeypatch.setattr(registry, "why_mode_unavailable", lambda framework, mode: "")
    row = registry.ALGORITHMS["ppo"]._replace(eager_updates=100)
    monkeypatch.setitem(registry.ALGORITHMS, "ppo", row)
    updates = CONFIG.updates_per_iteration
    expected = -(-100 // updates) * 16
    assert compile_ahead.compile_at("ppo", auto_loop()) == expected
    longer = auto_loop(total_steps=10_000)
    assert compile_ahead.compile_at("ppo", longer) == expected
    shorter = auto_loop(total_steps=expected)
    assert compile_ahead.compile_at("ppo", shorter) == 0
    assert compile_ahead.compile_at("ppo", auto_loop("eager")) == 0


def test_without_a_compiler_a_training_stays_eager(monkeypatch):
    monkeypatch.setattr(registry, "why_mode_unavailable", lambda framework, mode: "no g++")
    assert compile_ahead.compile_at("ppo", auto_loop(total_steps=10**7)) == 0


def test_only_trainings_have_the_mode_and_only_where_compiling_takes_long():
    assert registry.training_mode("torch", None) == "auto"
    assert registry.training_mode("torch", "compile") == "compile"
    assert registry.training_mode("linen", None) == "jit"
    assert registry.evaluation_mode("torch", None) == "eager"
    assert registry.evaluation_mode("torch", "auto") == "eager"
    assert registry.evaluation_mode("nnx", None) == "split"
    assert registry.mode("torch", None) == "compile"
    for framework in ("torch", "linen"):
        with pytest.raises(registry.UsageError, match="has no mode 'auto'"):
            registry.mode(framework, "auto")
    with pytest.raises(registry.UsageError, match="has no mode 'auto'"):
        registry.make_runtime("linen", "auto")


def test_a_function_is_as_written_until_it_is_compiled(monkeypatch):
    pytest.importorskip("torch")
    runtime = registry.make_runtime("torch", registry.AUTO)
    monkeypatch.setattr(runtime, "_compile", lambda fn: lambda *args: ("compiled", fn(*args)))
    later = runtime.compile(lambda x: x + 1)
    assert later(1) == 2
    runtime.start_compiling()
    assert later(1) == ("compiled", 2)
    runtime.start_compiling()
    assert later(1) == ("compiled", 2)


CARTPOLE = Task.parse("gymnasium/CartPole-v1")


def make_job() -> compile_ahead.Job:
    kind = registry.config_module("ppo").Config
    config = configs.to_dict(kind(total_steps=1000, num_envs=2, num_steps=8))
    task = str(CARTPOLE)
    return compile_ahead.Job(os.getpid(), "ppo", "torch", task, config, "float32", "cpu", None)


def test_a_process_is_started_where_it_can_help_and_ends_with_the_training(monkeypatch):
    started = []
    popen = subprocess.Popen

    def sleep(command, **options):
        started.append(command)
        return popen([sys.executable, "-c", "import time; time.sleep(60)"], **options)

    monkeypatch.setattr(subprocess, "Popen", sleep)
    monkeypatch.setattr(compile_ahead, "affinity", lambda: [0, 1])
    compiler = compile_ahead.Compiler()
    compiler.start(Task.choose(None, lambda: None), make_job())
    assert not started  # a function cannot be sent
    compiler.wait(threading.Event())
    compiler.start(CARTPOLE, make_job())
    assert started[0][-1] == "tiebreak.training.compile_ahead"
    process = compiler._process
    stop = threading.Event()
    stop.set()
    compiler.wait(stop)  # Ctrl-C while it compiles
    assert process.poll() is None
    monkeypatch.setattr(compile_ahead, "WAIT_S", 0.2)
    compiler.wait(threading.Event())  # it hangs
    assert process.poll() is not None
    compiler.close()

    monkeypatch.setattr(compile_ahead, "affinity", lambda: [0])
    compiler.start(CARTPOLE, make_job())
    assert len(started) == 1


@pytest.mark.slow(share=0.02)
def test_the_programs_of_a_training_are_compiled_into_the_cache(tmp_path, monkeypatch):
    """A process that compiles leaves in the cache all that the training needs."""
    pytest.importorskip("torch")
    if registry.why_mode_unavailable("torch", "compile"):
        pytest.skip("no C++ compiler")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compile_ahead, "affinity", lambda: [0, 1])

    def built() -> set[str]:
        return {path.name for path in tmp_path.rglob("*.so")}

    for _ in range(2):
        compiler = compile_ahead.Compiler()
        compiler.start(CARTPOLE, make_job())
        compiler.wait(threading.Event())
        compiler.close()
        first = built()
    assert first
    code = (
        "from tiebreak.loops.base import make_loop; from tiebreak import registry; "
        "loop = make_loop('ppo', 'torch', 'gymnasium/CartPole-v1', mode='auto', config="
        "registry.config_module('ppo').Config(total_steps=1000, num_envs=2, num_steps=8)); "
        "loop.run(); loop.runtime.start_compiling(); loop.run(); loop.close()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    assert built() == first


@pytest.mark.slow
def test_a_training_that_is_cut_before_or_after_the_change_ends_in_the_same_weights(
    tmp_path, monkeypatch
):
    pytest.importorskip("torch")
    if registry.why_mode_unavailable("torch", "compile"):
        pytest.skip("no C++ compiler")
    monkeypatch.setattr(compile_ahead, "affinity", lambda: [0])
    row = registry.ALGORITHMS["ppo"]._replace(eager_updates=40)  # 10 iterations of 16 steps
    monkeypatch.setitem(registry.ALGORITHMS, "ppo", row)

    def weights(name: str, *totals: int) -> dict:
        """Train to each of `totals` in turn, and return the weights of the last."""
        for total in totals:
            tiebreak.train(
                "ppo",
                "torch",
                CARTPOLE,
                overrides={
                    "total_steps": total, "num_envs": 2, "num_steps": 8, "anneal_lr": False,
                    "num_minibatches": 1, "num_epochs": 4, "hidden_sizes": (8,),
                },
                out=tmp_path / name,
                resume=total != totals[0],
                eval_episodes=0,
                progress=False,
            )  # fmt: skip
        return load_file(tmp_path / name / "policy.safetensors")

    whole = weights("whole", 480)
    for name, cut in (("before", 80), ("after", 320)):
        parts = weights(name, cut, 480)
        assert parts.keys() == whole.keys()
        assert all(np.array_equal(parts[key], whole[key]) for key in whole), name

    row = row._replace(eager_updates=10_000)
    monkeypatch.setitem(registry.ALGORITHMS, "ppo", row)
    eager = weights("eager", 480)
    assert any(not np.array_equal(eager[key], whole[key]) for key in whole)  # it did change
