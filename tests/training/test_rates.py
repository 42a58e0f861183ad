"""The rate that a training reports is the rate of its log once nothing compiles any more."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from training.fakes import CONFIG

from tiebreak import registry
from tiebreak.training import train as training
from tiebreak.training import train_loop
from tiebreak.verify.case import cases_of

FAST = {"actor_sizes": (16,), "critic_sizes": (16,), "num_atoms": 11, "num_envs": 4}
SMALL: dict[str, dict[str, object]] = {
    "ppo": {"hidden_sizes": (16,), "num_envs": 2, "num_steps": 16},
    "dqn": {"hidden_sizes": (16,)},
    "pqn": {"hidden_sizes": (16,), "num_envs": 2, "num_steps": 16},
    "td3": {"hidden_sizes": (16,)},
    "sac": {"hidden_sizes": (16,)},
    "mpo": {"hidden_sizes": (16,), "critic_sizes": (16,)},
    "fasttd3": FAST,
    "fastsac": {**FAST, "num_updates": 4},
}
OFF_POLICY = {"learning_starts": 200, "batch_size": 16, "replay_size": 4000, "num_rounds": 10}
STEPS = {"host": 2000, "fused": 40_000}


@pytest.fixture
def clock(loop, monkeypatch):
    """A clock that only the runs of the fake loop move; `loop.seconds` of each run, 0.25 at first.

    `loop.compiles` is the set of runs, counted from 1, in which something compiles.
    """
    now = {"s": 0.0}
    loop.compiles, loop.seconds = set(), lambda number: 0.25

    def before_run(number):
        now["s"] += loop.seconds(number)
        loop.runtime.compiled += number in loop.compiles

    loop.before_run, loop.iterations_per_run = before_run, 1
    monkeypatch.setattr(train_loop, "time", SimpleNamespace(perf_counter=lambda: now["s"]))


def train_fake():
    result = training.train(
        "ppo", "linen", "gymnax/CartPole-v1", config=CONFIG, out="run", progress=False
    )
    return result, read_log(result.out)


def read_log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def rate_of_log(log: list[dict]) -> float:
    """Return the steps per second after the last line that compiled, or learnt for the first time.

    Without compilation (eager modes) that is the first line that has updates.
    """
    first_learning = next(i for i, line in enumerate(log) if line["updates"])
    last = max([first_learning, *(i for i, line in enumerate(log) if line["compiled"])])
    steps = log[-1]["steps"] - log[last]["steps"]
    return steps / (log[-1]["seconds"] - log[last]["seconds"])


def test_learning_that_compiles_after_the_replay_is_filled_is_left_out(loop, clock):
    loop.warmup_steps = 10 * CONFIG.batch_size
    loop.compiles = {1, 11}
    loop.seconds = lambda number: {1: 3.0, 11: 9.0}.get(number, 0.01 if number < 11 else 0.25)
    result, log = train_fake()
    assert result.steps_per_s == pytest.approx(16 / 0.25)
    assert result.steps_per_s == pytest.approx(rate_of_log(log))
    assert result.first_s == pytest.approx(3.0 + 9 * 0.01 + 9.0)
    assert [line["steps"] for line in log if line["compiled"]] == [16, 11 * 16]


def test_an_interval_that_compiles_late_is_left_out(loop, clock):
    loop.compiles = {1, 30}
    loop.seconds = lambda number: {1: 3.0, 30: 20.0}.get(number, 0.25)
    result, _ = train_fake()
    assert result.steps_per_s == pytest.approx(16 / 0.25)


def test_without_compilation_the_first_learning_iteration_is_left_out(loop, clock):
    loop.warmup_steps = 10 * CONFIG.batch_size
    loop.seconds = lambda number: 7.0 if number in (1, 11) else 0.25
    result, log = train_fake()
    assert result.steps_per_s == pytest.approx(16 / 0.25)
    assert not any(line["compiled"] for line in log)


def test_a_run_of_one_iteration_has_the_rate_of_everything(loop, clock):
    result = training.train(
        "ppo", "linen", "gymnax/CartPole-v1", config=CONFIG, overrides={"total_steps": 16},
        out="run", progress=False,
    )  # fmt: skip
    assert result.steps_per_s == pytest.approx(16 / 0.25)
    assert result.first_s == result.wall_s == 0.25


def cases():
    """Every algorithm, on the host and fused, in JAX; on the host in torch and TensorFlow."""
    for algorithm, row in registry.ALGORITHMS.items():
        slow = pytest.mark.slow
        marks = () if algorithm == "dqn" else slow
        task = "CartPole-v1" if "discrete" in cases_of(algorithm).ACTIONS else "Pendulum-v1"
        host, fused = f"gymnasium/{task}", f"gymnax/{task}"
        overrides = {**(OFF_POLICY if row.off_policy else {}), **SMALL[algorithm]}
        yield pytest.param(algorithm, "linen", "jit", host, "host", overrides, marks=marks)
        yield pytest.param(algorithm, "linen", "jit", fused, "fused", overrides, marks=slow)
        yield pytest.param(algorithm, "torch", "eager", host, "host", overrides, marks=slow)
        yield pytest.param(algorithm, "torch", "compile", host, "host", overrides, marks=slow)
        yield pytest.param(algorithm, "tensorflow", "xla", host, "host", overrides, marks=slow)


@pytest.mark.parametrize(("algorithm", "framework", "mode", "task", "loop", "overrides"), cases())
def test_the_rate_is_that_of_the_log(
    algorithm, framework, mode, task, loop, overrides, tmp_path, monkeypatch
):
    monkeypatch.setattr(train_loop, "LOG_EVERY_S", 0.05)  # small trainings have lines enough
    result = training.train(
        algorithm,
        framework,
        task,
        mode=mode,
        loop=loop,
        overrides={"total_steps": STEPS[loop], **overrides},
        out=tmp_path / "run",
        eval_episodes=0,
        progress=False,
    )
    log = read_log(result.out)
    assert result.steps_per_s == pytest.approx(rate_of_log(log), rel=0.1)
    compiles = [line["steps"] for line in log if line["compiled"]]
    assert bool(compiles) == (mode != "eager")
    assert 0 < result.first_s < result.wall_s
    stored = json.loads((result.out / "result.json").read_text())
    assert stored["steps_per_s"] == result.steps_per_s
