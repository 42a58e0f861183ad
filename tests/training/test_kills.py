"""Trainings that are ended by signals at random instants and resumed: equal ends, nothing is left.

Every second sampled run has one training, with one kill. Fifty kills over all trainings:
`KILLS=50 pytest -s --slow-all tests/training/test_kills.py`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import kills
import numpy as np
import pytest

from tiebreak.frameworks import weights

ON = {"num_envs": 4, "num_steps": 16, "num_epochs": 1, "num_minibatches": 2, "hidden_sizes": 8}
OFF = {
    "num_envs": 3, "num_steps": 2, "num_updates": 2, "num_rounds": 4, "learning_starts": 60,
    "replay_size": 500, "batch_size": 16, "hidden_sizes": 8,
}  # fmt: skip
LONG_S = 600
"""More than anything here takes, on however busy a machine."""


class Training(NamedTuple):
    """A training of half a second after its start, with ten checkpoints or more."""

    arguments: str
    settings: dict[str, int]
    every: int
    """Steps between checkpoints."""
    evaluates: bool = True


TRAININGS = {
    "ppo-linen-fused": Training(
        "ppo --framework linen --loop fused --task gymnax/CartPole-v1",
        {**ON, "total_steps": 20480}, 1024,
    ),
    "ppo-torch-processes": Training(
        "ppo --framework torch --mode eager --task gymnasium/CartPole-v1",
        {**ON, "total_steps": 1280, "env_processes": 2}, 128, evaluates=False,
    ),
    "dqn-equinox-fused": Training(
        "dqn --framework equinox --loop fused --task gymnax/CartPole-v1",
        {**OFF, "target_every": 12, "total_steps": 4800}, 480,
    ),
    "sac-nnx-fused": Training(
        "sac --framework nnx --loop fused --task gymnax/Pendulum-v1",
        {**OFF, "total_steps": 2400}, 240,
    ),
    "td3-torch-host": Training(
        "td3 --framework torch --mode eager --task gymnasium/Pendulum-v1",
        {**OFF, "total_steps": 480}, 48,
    ),
    "dqn-tensorflow-host": Training(
        "dqn --framework tensorflow --mode function --task gymnasium/CartPole-v1",
        {**OFF, "target_every": 12, "total_steps": 960}, 96,
    ),
}  # fmt: skip


@pytest.mark.slow(share=0.1)  # a training in every second sampled run, with one kill
@pytest.mark.parametrize("name", list(TRAININGS))
def test_a_training_that_is_killed_and_resumed_ends_as_if_it_had_not_been(name, tmp_path, request):
    number, of = list(TRAININGS).index(name), len(TRAININGS)
    wanted = kills.COUNT or of
    wanted = wanted // of + (number < wanted % of)
    seed = f"{request.config.option.slow_seed} {name}"
    print(f"\n{wanted} kills with seed {seed!r}")
    Killer(TRAININGS[name], tmp_path, random.Random(seed)).make(wanted)


class Killer:
    """Trains once undisturbed, then again and again with kills; compares every end with that."""

    def __init__(self, training: Training, folder: Path, rng: random.Random):
        self.training, self.folder, self.rng = training, folder, rng
        self.kills = self.in_the_middle = 0
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self.whole = folder / "whole"
        begin = time.monotonic()
        child = self.start(self.whole)
        assert self.wait(child, lambda: newest(self.whole) > 0)
        self.start_s = time.monotonic() - begin
        self.finish(child, self.whole)

    def make(self, wanted: int) -> None:
        """Make so many kills, at least half of them between a checkpoint and the end."""
        number = 0
        while self.kills < wanted or 2 * self.in_the_middle < wanted:
            number += 1
            assert number <= 3 * wanted + 10, "the trainings end before they can be killed"
            cut = self.folder / f"cut-{number}"
            child = self.start(cut)
            self.kill(child, cut, "middle" if 2 * self.in_the_middle < wanted else "")
            while self.kills < wanted and self.rng.random() < 0.4:
                child = self.start(cut)
                self.kill(child, cut)
            self.finish(self.start(cut), cut)
            self.compare(cut)
        print(f"{self.kills} kills, {self.in_the_middle} of them in the middle, {number} trainings")

    def start(self, folder: Path) -> subprocess.Popen | None:
        """Start the training into a folder, or go on with it; None if it has come to its end."""
        self.begun_at = newest(folder)
        if status_of(folder) == "ok":
            return None
        training = self.training
        argv = [*training.arguments.split(), "--out", str(folder), "--eval-episodes", "2"]
        argv += ["--checkpoint-every", str(training.every)]
        argv += ["--eval-every", str(2 * training.every)] if training.evaluates else []
        for name, value in training.settings.items():
            argv += ["--set", f"{name}={value}"]
        if (folder / "config.json").exists():
            argv += ["--resume"]
        code = "import sys; from tiebreak.cli import main; sys.exit(main())"
        with open(self.folder / "said", "wb") as said:
            return subprocess.Popen(
                [sys.executable, "-c", code, "train", *argv],
                stdout=said,
                stderr=said,
                env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(self.temporary)},
                start_new_session=True,
                preexec_fn=kills.hear_signals,
            )

    def kill(self, child: subprocess.Popen | None, folder: Path, when: str = "") -> None:
        """Send a signal, drawn with its moment, and check what it leaves."""
        if child is None:
            return
        when = when or self.rng.choice(["start", "middle", "middle", "end"])
        self.wait_until(child, folder, when)
        begun = 0 < newest(folder) < self.training.settings["total_steps"]
        number = kills.end(child, self.rng)
        status = child.wait(timeout=LONG_S)
        print(f"{when}: {number.name}, status {status}, checkpoint {newest(folder)}")
        said = (self.folder / "said").read_text()
        if status == 0:  # it had ended before
            return
        self.kills += 1
        self.in_the_middle += begun
        kills.assert_nothing_runs(str(self.temporary))
        if number == signal.SIGKILL:
            assert status == -number
            return
        # Before the command has begun, and when it has ended, the system itself ends the process.
        told = "go on with: " in said or status_of(folder) == "ok"
        assert status == 128 + number or (status == -number and (said == "" or told)), said
        assert "Traceback" not in said
        if status > 0:
            assert said.splitlines()[-1].startswith("tiebreak: interrupted"), said
        if newest(folder) > self.begun_at and status_of(folder) != "ok":
            assert status_of(folder) == "interrupted"
            assert said.endswith(" --resume\n"), said
        assert list(self.temporary.iterdir()) == []
        assert [path for path in folder.rglob("*") if path.name.startswith(".")] == []

    def wait_until(self, child: subprocess.Popen, folder: Path, when: str) -> None:
        """Wait for a moment before the first checkpoint, after some of them, or near the end."""
        if when == "start":
            self.wait(child, lambda: False, self.rng.uniform(0, 0.7 * self.start_s))
            return
        if when == "middle":
            least = newest(folder) + self.rng.randint(1, 4) * self.training.every
            self.wait(child, lambda: newest(folder) >= least)
        else:
            least = self.training.settings["total_steps"]
            self.wait(child, lambda: newest(folder) >= least)
        self.wait(child, lambda: False, self.rng.uniform(0, 0.1))

    def wait(self, child: subprocess.Popen, condition, limit_s: float = LONG_S) -> bool:
        """Wait for a condition, the end of the process or of the time; return the condition."""
        deadline = time.monotonic() + limit_s
        while child.poll() is None and not condition() and time.monotonic() < deadline:
            time.sleep(0.005)
        return condition()

    def finish(self, child: subprocess.Popen | None, folder: Path) -> None:
        """Let the training come to its end, and check that it has left nothing behind."""
        if child is not None:
            assert child.wait(timeout=LONG_S) == 0, (self.folder / "said").read_text()
        kills.assert_nothing_runs(str(self.temporary))
        assert list(self.temporary.iterdir()) == []
        assert [path for path in folder.rglob("*") if path.name.startswith(".")] == []

    def compare(self, cut: Path) -> None:
        """Check that a training that was cut has the files of the whole one, bit for bit."""
        names = [
            sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
            for folder in (self.whole, cut)
        ]
        assert names[0] == names[1]
        if self.training.evaluates:
            assert (cut / "eval.jsonl").read_bytes() == (self.whole / "eval.jsonl").read_bytes()
        ours, theirs = (weights.load(f / "policy.safetensors") for f in (cut, self.whole))
        assert ours[1] == theirs[1]
        assert_equal(ours[0], theirs[0])
        checkpoint = f"checkpoints/{newest(self.whole):012d}.npz"
        with np.load(cut / checkpoint) as ours, np.load(self.whole / checkpoint) as theirs:
            assert_equal(*({k: v for k, v in x.items() if k != "about"} for x in (ours, theirs)))
        results = [json.loads((f / "result.json").read_text()) for f in (cut, self.whole)]
        for name in ("status", "returns", "steps", "updates", "return_mean"):
            assert results[0][name] == results[1][name], name
        assert all(one["exact"] for one in results[0].get("resumed", ()))
        lines = [json.loads(line) for line in (cut / "metrics.jsonl").read_text().splitlines()]
        steps = [line["steps"] for line in lines]
        assert steps == sorted(set(steps))


def assert_equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        assert ours[name].dtype == array.dtype, name
        np.testing.assert_array_equal(ours[name], array, err_msg=name)


def status_of(folder: Path) -> str | None:
    """Return how a training's last process has ended; None if it was killed."""
    file = folder / "result.json"
    return json.loads(file.read_text())["status"] if file.exists() else None


def newest(folder: Path) -> int:
    """Return the steps of a folder's newest checkpoint, 0 without one."""
    return max((int(path.stem) for path in (folder / "checkpoints").glob("[0-9]*.npz")), default=0)
