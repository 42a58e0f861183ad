"""One training after the other: kills, budgets, failures, and going on."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from studies import study_files as small

from tiebreak import cli
from tiebreak.core.errors import UsageError
from tiebreak.studies import queue, seeds
from tiebreak.studies.queue import Queue, words_of
from tiebreak.studies.registration import Registration

STUB = Path(__file__).with_name("train_stub.py")
REGISTERED = {"ppo-small": Registration("f" * 40, "2030-01-01T00:00:00+00:00")}


@pytest.fixture
def stub(monkeypatch, tmp_path):
    """Trainings are stubs; the working folder is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(queue, "PYTHON", (sys.executable, "-S", str(STUB)))
    monkeypatch.setattr(queue, "POLL_S", 0.01)


def run(budget_s=math.inf, stop=None, text=small.TEXT):
    told = []
    jobs = Queue(small.parse(text), Path("out"), REGISTERED)
    failed = jobs.run(stop or threading.Event(), budget_s, told.append)
    return jobs, failed, [outcome.job.name for outcome in told]


def test_all_are_trained_seed_by_seed_and_not_again(stub):
    jobs, failed, told = run()
    assert told[:3] == [f"ppo-small {name} seed 10" for name in ("torch", "nnx", "nnx-clip")]
    assert len(told) == 8
    assert (jobs.left, failed) == ([], [])
    assert run()[2] == []
    config = json.loads(Path("out/ppo-small/nnx-clip/seed-001/config.json").read_text())
    words = " ".join(config["words"])
    assert words.startswith("tiebreak train ppo --framework nnx --task gymnax/CartPole-v1")
    assert words.endswith("--set total_steps=300 --set hidden_sizes=8, --set clip=0.3")
    assert "--eval-every 100 --eval-episodes 2" in words


def test_a_mistake_is_planted_by_a_program_of_its_own(stub):
    text = small.TEXT.replace("label =", "alteration = 'without-jacobian', label =")
    job = Queue(small.parse(text), Path("out"), {}).jobs[2]
    assert words_of(job)[:3] == ["tiebreak.commands.altered_train", "without-jacobian", "train"]


def test_a_record_has_the_number_and_what_it_was_registered_by(stub):
    run()
    records = seeds.collect(small.parse(), Path("out"))
    assert [record["value"] for record in records] == [10.0, 10.0, 10.0, 11.0, 11.0, 11.0, 12, 12]
    assert {record["registered"] for record in records} == {"f" * 40}
    seeds.write(Path("results"), small.parse(), records)
    studies, read = seeds.read(Path("results"))
    assert read == records
    assert studies[0].digest == small.parse()[0].digest
    assert str(Path.cwd()) not in Path("results/seeds.jsonl").read_text()


def test_measures_by_hand(stub):
    run()
    folder = Path("out/ppo-small/torch/seed-000")
    assert seeds.measure(folder, "learning") == 10.0
    assert seeds.measure(folder, "final") == 10.0
    assert seeds.measure(folder, "exploring") == 290.0  # of those that end after step 270


def test_a_budget_ends_the_running_training_and_the_next_call_goes_on_with_it(stub, monkeypatch):
    Path("wait-10").touch()
    begun = Path("out/ppo-small/torch/seed-000/config.json")
    clock = SimpleNamespace(monotonic=lambda: 100.0 if begun.exists() else 0.0, sleep=time.sleep)
    with monkeypatch.context() as patched:
        patched.setattr(queue, "time", clock)
        jobs, failed, told = run(budget_s=60.0)
    assert (failed, told) == ([], [])
    assert len(jobs.left) == 8
    Path("wait-10").unlink()
    run()
    assert json.loads(begun.read_text())["words"][-1] == "--resume"
    note = json.loads(Path("out/ppo-small/torch/seed-000.json").read_text())
    assert note["seconds"] > 100  # of both


def test_a_failure_does_not_end_the_others_and_is_tried_again(stub):
    Path("fail-11").touch()
    jobs, failed, _ = run()
    assert [outcome.error for outcome in failed] == ["seed 11 has diverged"] * 3
    assert len(jobs.left) == 3
    Path("fail-11").unlink()
    assert run()[0].left == []


def test_a_stop_ends_it_soon(stub):
    Path("wait-11").touch()
    begun = Path("out/ppo-small/torch/seed-001/config.json")
    stop = SimpleNamespace(is_set=begun.exists)
    jobs, failed, _ = run(stop=stop)
    assert failed == []
    assert len(jobs.left) == 5


def test_kill_9_loses_nothing(stub):
    Path("wait-11").touch()
    tests = Path(__file__).parents[1]
    code = f"""
        import sys
        sys.path.insert(0, {str(tests)!r})
        from studies import test_queue
        test_queue.queue.PYTHON = {queue.PYTHON!r}
        test_queue.run()
    """
    manager = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    running = Path("out/ppo-small/torch/seed-001/config.json")
    deadline = time.monotonic() + 60
    while not running.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(manager.pid, signal.SIGKILL)
    manager.wait()
    Path("wait-11").unlink()
    jobs, _, told = run()
    assert (jobs.left, len(told)) == ([], 5)


def test_two_queues_do_not_share_a_folder(stub):
    with queue.hold(Path("out"), "running a study"), pytest.raises(UsageError, match="another"):
        run()


def test_a_study_that_was_changed_does_not_go_on_in_its_old_folder(stub):
    run()
    changed = small.TEXT.replace("clip = 0.3", "clip = 0.4")
    with pytest.raises(UsageError, match="was begun before the study 'ppo-small' was changed"):
        run(text=changed)


def test_the_estimate_is_that_of_the_file_until_one_is_trained(stub):
    jobs = Queue(small.parse(), Path("out"), {})
    assert jobs.seconds_left() == 8 * 30
    Path("fail-11").touch()
    jobs, _, _ = run()
    assert 0 < jobs.seconds_left() < 30


def test_the_command_trains_and_says_what_it_shows(stub, capsys):
    path = small.write(Path.cwd())
    command = ["study", str(path), "--out", "runs"]
    assert cli.main(command) == 2
    assert "is not committed as it is" in capsys.readouterr().err
    assert cli.main([*command, "--unregistered", "--results", "results"]) == 0
    out, err = capsys.readouterr()
    assert "[8/8] ppo-small nnx seed 12: done in" in err
    assert "ppo-small: torch and nnx: not registered, 3 and 3 seeds" in out
    assert "same" not in out
    assert json.loads(Path("results/studies.json").read_text())["studies"] == []
    assert cli.main(["study", str(path), "--out", "runs", "--plan"]) == 0
    assert "0 trainings are left" in capsys.readouterr().out
    assert cli.main(["report", "runs", "-o", "page.html"]) == 0
    assert "Nothing is shown yet" in Path("page.html").read_text()


@pytest.mark.parametrize("budget", ["soon", "1 week", "0min", "3"])
def test_a_budget_that_is_none_is_one_line(budget, capsys):
    assert cli.main(["study", "--out", "x", "--budget", budget]) == 2
    assert "as 90s, 40min or 2h" in capsys.readouterr().err
