"""`tiebreak.train` around a loop that computes nothing: what is written, read and kept."""

from __future__ import annotations

import errno
import json
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
from training.fakes import CONFIG, SPEC

from tiebreak import registry
from tiebreak.algorithms.ppo.data import initial_weights
from tiebreak.commands.signals import ending_signals
from tiebreak.core import config as configs
from tiebreak.core.errors import UsageError
from tiebreak.envs.task import Task
from tiebreak.frameworks import weights
from tiebreak.training import policy_files, request, session, train_loop
from tiebreak.training import train as training

ASKED = ("ppo", "linen", "gymnax/CartPole-v1")


def train(**kwargs):
    settings = {"out": "run", "config": CONFIG, "progress": False, **kwargs}
    return training.train(*ASKED, **settings)


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_everything_behind(loop, tmp_path):
    result = train(seed=3)
    folder = tmp_path / "run"
    files = {"checkpoints", "config.json", "metrics.jsonl", "policy.safetensors", "result.json"}
    assert {p.name for p in folder.iterdir()} == files
    assert (result.steps, result.updates, result.returns) == (992, 62 * 16, [5.0] * 4)
    log = lines(folder)
    assert [log[-1][k] for k in ("steps", "updates", "mean_return")] == [992, 62 * 16, 5.0]
    assert sum(line["episodes"] for line in log) == 62
    assert json.loads((folder / "result.json").read_text())["status"] == "ok"
    about = json.loads((folder / "config.json").read_text())
    assert about["config"] == configs.to_dict(CONFIG)
    asked = {"framework": "linen", "mode": "jit", "loop": "fused", "seed": 3, "task": ASKED[2]}
    assert asked.items() <= about.items()
    assert loop.closed


def test_the_final_evaluation_is_of_the_stored_policy_with_the_run_s_seed(loop, monkeypatch):
    asked = []

    def evaluate(folder, **settings):
        asked.append((folder.name, settings))
        return SimpleNamespace(returns=[5.0] * settings["episodes"], cut=0, max_steps=10)

    monkeypatch.setattr(session, "evaluate", evaluate)
    assert train(seed=3, eval_episodes=6).returns == [5.0] * 6
    runtime = {"mode": "jit", "precision": "float32", "device": "cpu"}
    of_run = {"task": Task.parse(ASKED[2]), "seed": 3}
    assert asked == [("run", {"episodes": 6, "max_steps": None, **of_run, **runtime})]


def test_the_stored_command_repeats_the_run(loop, tmp_path):
    train(overrides={"num_envs": "1", "hidden_sizes": "(8,)", "total_steps": "5e2"})
    words = json.loads((tmp_path / "run/config.json").read_text())["command"].split()
    stored = configs.parse_assignments(words[i + 1] for i, w in enumerate(words) if w == "--set")
    again = configs.override(registry.reference_config("ppo", SPEC), stored)
    assert again == loop.config
    assert (again.num_envs, again.hidden_sizes, again.total_steps) == (1, (8,), 500)


def test_the_device_is_read_once_per_line_and_lines_come_about_every_second(
    loop, tmp_path, monkeypatch
):
    clock = {"now": 0.0}
    monkeypatch.setattr(train_loop, "time", SimpleNamespace(perf_counter=lambda: clock["now"]))
    loop.before_run = lambda number: clock.update(now=clock["now"] + (5.0 if number == 1 else 0.25))
    loop.iterations_per_run = 1
    result = train(checkpoint_every=0)
    log = lines(tmp_path / "run")
    runs = np.diff([0, *(line["steps"] for line in log)]) // CONFIG.batch_size
    assert runs[:5].tolist() == [1, 1, 2, 4, 4]
    assert loop.runtime.reads == len(log)
    assert result.first_s == 5.0
    assert result.steps_per_s == pytest.approx(16 / 0.25)  # compilation left out


def test_a_loss_that_is_no_number_stops_and_is_named(loop, tmp_path):
    loop.before_run = lambda number: setattr(loop, "loss", float("nan") if number == 1 else 0.0)
    with pytest.raises(session.TrainingFailed, match="loss is nan after 16 steps"):
        train()
    folder = tmp_path / "run"
    assert loop.runs == 1
    assert lines(folder)[0]["loss"] is None
    assert json.loads((folder / "result.json").read_text())["status"] == "failed"
    assert not (folder / policy_files.POLICY).exists()


def test_ctrl_c_ends_at_the_next_run_and_keeps_the_policy(loop, tmp_path):
    handler = signal.getsignal(signal.SIGINT)
    loop.before_run = lambda number: number == 2 and os.kill(os.getpid(), signal.SIGINT)
    said = "after 64 steps; the policy so far .* --seed 0 .* --out run --resume$"
    with pytest.raises(session.TrainingInterrupted, match=said):
        train(checkpoint_every=64)
    assert loop.runs == 2
    assert lines(tmp_path / "run")[-1]["steps"] == 64
    assert policy_files.load_policy("run").metadata["steps"] == 64
    assert json.loads((tmp_path / "run/result.json").read_text())["status"] == "interrupted"
    assert signal.getsignal(signal.SIGINT) is handler


def interrupt_from(first):
    def before_run(number):
        if number >= first:
            raise KeyboardInterrupt

    return before_run


def test_ctrl_c_before_anything_leaves_nothing(loop, tmp_path):
    loop.before_run = interrupt_from(1)
    with pytest.raises(session.TrainingInterrupted, match="nothing is kept"):
        train()
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_the_folder_is_made_leaves_nothing(loop, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "make_trackers", interrupted)
    with pytest.raises(session.TrainingInterrupted, match="nothing is kept"):
        train()
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_in_the_middle_of_a_run_keeps_the_log_only(loop, tmp_path):
    loop.before_run = interrupt_from(2)
    with pytest.raises(session.TrainingInterrupted, match="log is kept in run"):
        train()
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "config.json", "metrics.jsonl", "result.json",
    }  # fmt: skip


def test_a_second_signal_while_the_end_is_recorded_changes_nothing(loop, tmp_path, monkeypatch):
    def before_run(number):
        if number == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    write_json = session.write_json

    def write(path, value):
        if path.name == "result.json":
            os.kill(os.getpid(), signal.SIGINT)
        write_json(path, value)

    loop.before_run = before_run
    monkeypatch.setattr(session, "write_json", write)
    with ending_signals() as ending, pytest.raises(session.TrainingInterrupted, match="is kept"):
        train()
    assert json.loads((tmp_path / "run/result.json").read_text()) == {"status": "interrupted"}
    assert ending.status == 128 + signal.SIGTERM


def test_ctrl_c_while_evaluating_keeps_the_policy(loop, monkeypatch):
    def evaluate(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "evaluate", evaluate)
    with pytest.raises(session.TrainingInterrupted, match="policy so far is kept"):
        train()
    assert policy_files.load_policy("run").metadata["steps"] == 992


def test_an_error_in_the_loop_is_noted_and_passed_on(loop, tmp_path):
    def before_run(number):
        if number == 3:
            raise RuntimeError("the environment broke\nbadly")

    loop.before_run = before_run
    with pytest.raises(RuntimeError, match="the environment broke"):
        train()
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result == {"status": "failed", "error": "the environment broke badly"}
    assert loop.closed


def test_an_impossible_loop_is_refused_before_any_task_is_made(loop, monkeypatch):
    monkeypatch.setattr(request, "make_spec", lambda task: pytest.fail("made a task"))
    with pytest.raises(UsageError, match="'tensorflow' cannot run it"):
        training.train("ppo", "tensorflow", ASKED[2], loop="fused", overrides={"num_envs": 2})


def test_failures_of_the_simulator_stand_in_the_log_and_are_told(loop, tmp_path, capsys):
    loop.failures = 3
    training.train(*ASKED, out="run", config=CONFIG)
    assert lines(tmp_path / "run")[-1]["failures"] == 3
    assert "the simulator failed 3 times (NaN)" in capsys.readouterr().err


def test_default_folders_are_new_each_time(loop, tmp_path):
    name = "ppo-linen-gymnax-CartPole-v1-s0"
    assert [train(out=None).out.name for _ in range(3)] == [name, f"{name}-2", f"{name}-3"]
    assert policy_files.choose_folder(None, "a/b:../c d").name == "a-b-..-c-d"


def test_trainings_that_start_together_get_a_folder_each(loop, tmp_path):
    """Both have resolved their requests before either makes its folder."""
    asked = request.TrainingRequest(ASKED[0], ASKED[1], Task.parse(ASKED[2]), config=CONFIG)
    one, two = asked.resolve(), asked.resolve()
    with one.hold_folder() as first, two.hold_folder() as second:
        assert (first.folder.name, second.folder.name) == (one.folder.name, f"{one.folder.name}-2")
    assert list((tmp_path / "runs").iterdir()) == []  # nothing was put into them


def test_a_default_folder_that_cannot_be_made_is_refused_with_advice(loop, monkeypatch):
    def mkdir(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(policy_files.Path, "mkdir", mkdir)
    with pytest.raises(UsageError, match=r"'runs/.*': Read-only .*; name another .* --out$"):
        train(out=None)


def test_a_folder_that_was_filled_meanwhile_is_refused(loop, tmp_path):
    asked = request.TrainingRequest(
        ASKED[0], ASKED[1], Task.parse(ASKED[2]), config=CONFIG, out="run"
    ).resolve()
    train()
    with pytest.raises(UsageError, match="is not empty"), asked.hold_folder():
        pass


FILES = ("metrics.jsonl", "eval.jsonl", "checkpoints", "policy.safetensors", "result.json")


@pytest.mark.parametrize("file", FILES)
def test_a_full_disk_is_one_line_loses_one_line_and_can_be_resumed(
    loop, tmp_path, monkeypatch, file
):
    """Half of a write of each kind succeeds, as on a full disk."""
    options = {"eval_every": 64, "checkpoint_every": 64}
    monkeypatch.setattr(session.Session, "_returns_during_training", lambda self: [5.0])
    is_full, write, sync, room = [], os.write, os.fsync, []

    def concerns(handle):
        return (
            not room
            and loop.steps > 300
            and f"/{file}" in os.readlink(f"/proc/self/fd/{handle}").replace("/.", "/")
        )

    def half(handle, data):
        if not concerns(handle):
            return write(handle, data)
        is_full.append(file)
        return write(handle, data[: len(data) // 2])

    def full(handle):
        if concerns(handle) and not file.endswith("l"):
            is_full.append(file)
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    monkeypatch.setattr(os, "write", half)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(session.TrainingFailed, match=f"cannot write '?run/{file}.*No space left"):
        train(**options)
    assert is_full
    _check_what_is_left(tmp_path / "run", file)
    room.append("made")
    assert train(resume=True, **options).steps == 992
    steps = [line["steps"] for line in lines(tmp_path / "run")]
    assert steps == sorted(set(steps))


def _check_what_is_left(folder, file):
    assert all(line["steps"] for line in lines(folder))  # no torn line
    hidden = list(folder.rglob(".*"))
    assert hidden == []
    if file != "result.json":
        assert json.loads((folder / "result.json").read_text())["status"] == "failed"


def test_a_folder_in_use_is_left_alone(loop, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        train()
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["thesis.txt"]
    with pytest.raises(UsageError, match="is a file"):
        train(out="run/thesis.txt")


ABOUT = {"algorithm": "ppo", "spec": SPEC.__dict__, "config": configs.to_dict(CONFIG)}


def spoil(arrays, **changes):
    return {k: v for k, v in {**arrays, **changes}.items() if v is not None}


@pytest.mark.parametrize(
    ("changes", "about", "message"),
    [
        ({"actor/0/kernel": None}, ABOUT, "lacks the array 'actor/0/kernel'"),
        ({"actor/0/bias": np.zeros(9)}, ABOUT, r"has shape \(9,\), not \(64,\)"),
        ({}, {**ABOUT, "algorithm": "alphago"}, "no policy of an algorithm known here"),
        ({}, {"algorithm": "ppo"}, "describes no policy: lacks 'spec'"),
        ({}, {**ABOUT, "config": {"layers": 3}}, "unknown setting 'layers'"),
        ({}, {}, "describes no policy: lacks 'algorithm'"),
    ],
)
def test_a_policy_that_does_not_fit_its_description_is_refused(tmp_path, changes, about, message):
    arrays = initial_weights(SPEC, CONFIG, 0)
    weights.save(tmp_path / policy_files.POLICY, spoil(arrays, **changes), about)
    with pytest.raises(UsageError, match=message):
        policy_files.load_policy(tmp_path)


def test_a_policy_reads_back_as_it_was(tmp_path):
    arrays = initial_weights(SPEC, CONFIG, 0)
    policy_files.save_policy(tmp_path, arrays, "ppo", SPEC, CONFIG, task="gymnax/X")
    policy = policy_files.load_policy(tmp_path)
    assert (policy.spec, policy.config, policy.metadata["task"]) == (SPEC, CONFIG, "gymnax/X")
    assert policy.weights.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(policy.weights[name], array)
        assert policy.weights[name].shape == array.shape, name
