"""Sweeps of real trainings on each executor, bit for bit as one after the other; random kills.

`pytest --slow-all tests/training/test_executors_train.py`, a few minutes for each executor; with
more kills: `KILLS=20 pytest -s --slow-all -k killed tests/training/test_executors_train.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shlex
import signal
import subprocess
import threading
import time
from pathlib import Path

import kills
import numpy as np
import pytest
from training.many_agents import asked

from tiebreak import cli
from tiebreak.frameworks import weights
from tiebreak.training import jobs
from tiebreak.training.executors import start
from tiebreak.training.request import Intervals

CONFIG = {"num_envs": 2, "num_steps": 16, "num_epochs": 1, "num_minibatches": 2, "hidden_sizes": 8}
EXECUTORS = ["processes:2", "submitit:2,cluster=local", "ray:2"]
ONE_BY_ONE = "local"
STEPS = int(os.environ.get("STEPS", 8192))
"""Steps of each agent that is killed."""


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory):
    """Return a function of steps that trains one after the other, and gives the folder; once."""
    folders = {}

    def make(steps):
        if steps not in folders:
            folders[steps] = tmp_path_factory.mktemp("whole") / "run"
            sweep(folders[steps], ONE_BY_ONE, steps)
        return folders[steps]

    return make


class Nodes:
    """Two Ray nodes of one CPU each, beside a head without any: one at a time may be lost."""

    def __init__(self):
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        self.nodes = [self.cluster.add_node(num_cpus=1) for _ in range(2)]

    def lose_one(self, rng):
        """Kill a node and all that runs on it; another one comes."""
        node = self.nodes.pop(rng.randrange(2))
        self.cluster.remove_node(node, allow_graceful=False)
        self.nodes.append(self.cluster.add_node(num_cpus=1))


@contextlib.contextmanager
def executor_of(text):
    """Yield an executor's text and, for Ray, its nodes."""
    pytest.importorskip("torch")
    name = text.partition(":")[0]
    if name != "processes":
        pytest.importorskip(name)
    if name != "ray":
        yield text, None
        return
    nodes = Nodes()
    yield f"{text},address={nodes.cluster.address}", nodes
    nodes.cluster.shutdown()


def sweep(folder, executor, steps, seeds=6, resume=False):
    """Train twice as many agents as seeds."""
    request = asked(
        config=None,
        overrides={**CONFIG, "total_steps": steps},
        mode="eager",
        seeds=seeds,
        sweep={"learning_rate": [1e-3, 3e-4]},
        threads=1,
        executor=executor,
        out=str(folder),
        resume=resume,
        intervals=Intervals(eval_episodes=2, eval_every=steps // 2),
    )
    return start(request, progress=False)


def compare(run, whole, capsys):
    """Hold a sweep against the one whose agents were trained one after the other."""
    names = {path.name for path in run.iterdir()} - {"submitit"}
    assert names == {path.name for path in whole.iterdir()}
    results = [json.loads((folder / "result.json").read_text()) for folder in (run, whole)]
    for name in ("status", "returns", "steps", "updates", "agents", "by_settings", "return_iqm"):
        assert results[0][name] == results[1][name], name
    for ours in sorted(run.glob("agent-*/")):
        theirs = whole / ours.name
        assert (ours / "eval.jsonl").read_bytes() == (theirs / "eval.jsonl").read_bytes()
        arrays, expected = (weights.load(f / "policy.safetensors")[0] for f in (ours, theirs))
        assert arrays.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(arrays[name], array, err_msg=f"{ours.name} {name}")
    lines = []
    for folder in (run, whole):
        assert cli.main(["plot", str(folder), "--json"]) == 0
        lines.append(capsys.readouterr().out)
    assert lines[0] == lines[1]


@pytest.mark.slow(share=0.005)
@pytest.mark.parametrize("text", EXECUTORS)
def test_a_sweep_of_12_ends_in_the_same_numbers(text, tmp_path, monkeypatch, capsys, one_by_one):
    monkeypatch.chdir(tmp_path)
    whole = one_by_one(256)
    with executor_of(text) as (executor, _):
        result = sweep(tmp_path / "run", executor, 256)
    assert result.agents == 12
    compare(tmp_path / "run", whole, capsys)


@pytest.mark.slow(share=0.005)
@pytest.mark.parametrize("text", EXECUTORS)
def test_jobs_that_are_killed_lose_nothing(
    text, tmp_path, monkeypatch, capsys, one_by_one, request
):
    monkeypatch.chdir(tmp_path)
    whole = one_by_one(STEPS)
    wanted = kills.COUNT or 2
    seed = f"{request.config.option.slow_seed} {text}"
    print(f"\n{wanted} kills with seed {seed!r}")
    with executor_of(text) as (executor, nodes):
        killer = Killer(tmp_path / "run", nodes, random.Random(seed), wanted)
        killer.start()
        result = sweep(tmp_path / "run", executor, STEPS)
        killer.has_ended = True
        killer.join()
    assert result.summary.get("failed") is None
    assert killer.made
    print(f"{len(killer.made)} kills: {', '.join(killer.made)}")
    compare(tmp_path / "run", whole, capsys)


@pytest.mark.slow(share=0.005)
@pytest.mark.parametrize("text", EXECUTORS)
def test_a_sweep_whose_command_is_killed_goes_on(
    text, tmp_path, monkeypatch, capsys, one_by_one, request
):
    monkeypatch.chdir(tmp_path)
    whole = one_by_one(STEPS)
    rng = random.Random(f"{request.config.option.slow_seed} {text}")
    words = shlex.split(json.loads((whole / "config.json").read_text())["command"])[1:]
    with executor_of(text) as (executor, _):
        words[words.index("--executor") + 1] = executor
        command = [*jobs.PROGRAM, *words, "--threads", "1", "--out", str(tmp_path / "run")]
        for _ in range(2):
            child = subprocess.Popen(going_on(command))
            time.sleep(rng.uniform(5, 15))
            child.kill()
            child.wait()
        subprocess.run(going_on(command), check=True)
    compare(tmp_path / "run", whole, capsys)


def going_on(command):
    """Return a command with --resume, once there is a run."""
    return [*command, "--resume"] if Path(command[-1], "config.json").exists() else command


class Killer(threading.Thread):
    """Kills processes of jobs at random instants, and nodes of Ray."""

    def __init__(self, folder, nodes, rng, wanted):
        super().__init__(daemon=True)
        self.folder, self.nodes, self.rng, self.wanted = folder, nodes, rng, wanted
        self.made: list[str] = []
        self.has_ended = False

    def run(self):
        while not self.has_ended and len(self.made) < self.wanted:
            time.sleep(self.rng.uniform(1, 6))
            if self.nodes is not None and self.rng.random() < 0.3:
                self.nodes.lose_one(self.rng)
                self.made.append("node")
                continue
            candidates = processes_of(self.folder)
            if candidates:
                pid, what = self.rng.choice(candidates)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    self.made.append(what)


def processes_of(folder: Path) -> list[tuple[int, str]]:
    """Return pid and kind of the processes that name a run's folder: trainings, submitit's."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text().split("\0")
        except OSError:  # it has ended
            continue
        is_job = any(word == str(folder) or word.startswith(f"{folder}/") for word in words)
        if is_job and int(process.name) != os.getpid():
            what = next((word for word in words if word.startswith("submitit.")), "training")
            found.append((int(process.name), what))
    return found
