"""`tiebreak train --distributed` in two processes of this machine, from the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from loops.test_population import LOOSE, TIGHT
from processes_together import environment, free_port, run_together, started

from tiebreak.training import policy_files

MODULE = ["-m", "tiebreak"]
SETS = {
    "ppo": "num_envs=4 num_steps=32 num_minibatches=2 hidden_sizes=8,8 total_steps=1024 "
    "anneal_lr=false",
    "sac": "num_envs=4 num_rounds=8 learning_starts=64 replay_size=400 batch_size=16 "
    "hidden_sizes=8,8 total_steps=512",
}
ROWS = {
    "torch": ("torch", "gymnasium/CartPole-v1", "gymnasium/Pendulum-v1"),
    "jax": ("linen", "gymnax/CartPole-v1", "gymnax/Pendulum-v1"),
}
CASES = [(algorithm, row) for algorithm in SETS for row in ROWS]


def command(algorithm, row, out, *more, **sets):
    framework, cartpole, pendulum = ROWS[row]
    task = cartpole if algorithm == "ppo" else pendulum
    pairs = {**dict(pair.split("=") for pair in SETS[algorithm].split()), **sets}
    options = [word for name, value in pairs.items() for word in ("--set", f"{name}={value}")]
    words = ["train", algorithm, "--framework", framework, "--task", task, "--seed", "5"]
    words += ["--eval-every", "256", "--eval-episodes", "2", "--out", str(out), *options, *more]
    return [*MODULE, *words, *(["--mode", "eager"] if row == "torch" else [])]


def run(arguments):
    done = subprocess.run(
        [sys.executable, *arguments], env=environment(), capture_output=True, text=True,
        timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def run_both(arguments):
    both = run_together([*arguments, "--distributed=ADDRESS"])
    for status, _, errors in both:
        assert status == 0, errors[-3000:]
    return both


def assert_close(algorithm, one, two):
    bound = TIGHT if algorithm == "ppo" else LOOSE
    ours, theirs = (policy_files.load_policy(folder).weights for folder in (one, two))
    for name, want in ours.items():
        np.testing.assert_allclose(theirs[name], want, **bound, err_msg=name)


def evaluations(folder):
    lines = (folder / "eval.jsonl").read_text().splitlines()
    return [(line["steps"], line["returns"]) for line in map(json.loads, lines)]


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "row"), CASES)
def test_two_processes_train_what_one_trains_and_one_goes_on(algorithm, row, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    run(command(algorithm, row, one))
    (_, out, _), (_, silent, _) = run_both(command(algorithm, row, two))
    assert "policy and log" in out
    assert "policy and log" not in silent
    assert_close(algorithm, one, two)
    for (steps, want), (other_steps, got) in zip(evaluations(one), evaluations(two), strict=True):
        assert steps == other_steps
        np.testing.assert_allclose(got, want, rtol=0.02)
    assert json.loads((two / "result.json").read_text())["status"] == "ok"

    more = {"total_steps": "2048" if algorithm == "ppo" else "1024"}
    done = run(command(algorithm, row, two, "--resume", **more))
    assert "processes 2 -> 1" in done.stderr
    run(command(algorithm, row, tmp_path / "whole", **more))
    assert_close(algorithm, tmp_path / "whole", two)


@pytest.mark.slow(share=0.1)
def test_torchrun_says_where_the_processes_are(tmp_path):
    arguments = command("ppo", "torch", tmp_path / "run", "--distributed")
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port"]
    run([*launcher, str(free_port()), *arguments])
    assert json.loads((tmp_path / "run/config.json").read_text())["ranks"] == 2


def wait_for(path, seconds=120.0):
    """Wait until a file has a line: both ranks train."""
    end = time.monotonic() + seconds
    while not path.exists() or not path.stat().st_size:
        assert time.monotonic() < end, f"{path} has not come"
        time.sleep(0.1)


LONG = {"total_steps": "10000000"}


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("dead", [0, 1])
def test_a_rank_that_is_killed_ends_the_other(row, dead, tmp_path):
    arguments = command("ppo", row, tmp_path / "run", "--distributed=ADDRESS", **LONG)
    with started(arguments) as processes:
        wait_for(tmp_path / "run/eval.jsonl")
        processes[dead].kill()
        other = processes[1 - dead]
        _, errors = other.communicate(timeout=60)
    assert other.returncode != 0
    if dead == 1 or row == "torch":  # JAX itself ends all processes if the first one dies
        last = errors.strip().splitlines()[-1]
        assert last.startswith(f"tiebreak: rank {1 - dead} of 2 ends, as another process"), errors


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_ctrl_c_ends_all_with_a_checkpoint_that_goes_on(row, tmp_path):
    run_folder = tmp_path / "run"
    arguments = command("ppo", row, run_folder, "--distributed=ADDRESS", **LONG)
    with started(arguments) as processes:
        wait_for(run_folder / "eval.jsonl")
        for process in processes:
            process.send_signal(signal.SIGINT)
        ends = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [130, 130], ends
    assert "go on with: tiebreak train" in ends[0][1]
    assert list((run_folder / "checkpoints").glob("*.npz"))
