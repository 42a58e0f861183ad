"""Going on after a kill: what is stored, what is taken back, and what is refused."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
from training.fakes import CONFIG
from training.test_training import ASKED, lines, train

from tiebreak import cli
from tiebreak.core.errors import UsageError
from tiebreak.core.files import hold
from tiebreak.training import checkpoints, session
from tiebreak.training import train as training


@pytest.fixture
def evaluated(monkeypatch):
    """Evaluations on the way cost nothing; how many there were."""
    seen = []

    class Evaluator:
        cut, limit = 0, 10

        def __init__(self, **_):
            pass

        def returns(self, state):
            seen.append(state)
            return [1.0, 3.0]

        def close(self):
            pass

    monkeypatch.setattr(session, "Evaluator", Evaluator)
    return seen


def cut(loop, at, **kwargs):
    """A run that breaks, like a killed process, behind step `at`; the folder as it was then."""

    def before_run(number):
        if loop.steps > at:
            shutil.copytree("run", "killed")
            raise RuntimeError("killed")

    loop.before_run = before_run
    with pytest.raises(RuntimeError, match="killed"):
        train(**kwargs)
    shutil.rmtree("run")
    shutil.move("killed", "run")
    loop.before_run, loop.runs, loop.updates = (lambda number: None), 0, 0


EVERY = {"eval_every": 200, "checkpoint_every": 300}


def test_a_run_goes_on_and_ends_as_if_it_had_not_been_cut(loop, evaluated, tmp_path):
    train(out="whole", **EVERY)
    loop.runs = loop.updates = 0
    cut(loop, 800, **EVERY)
    before = lines(tmp_path / "run")
    assert before[-1]["steps"] == 800  # behind the last checkpoint
    result = train(resume=True, **EVERY)
    assert (result.steps, result.updates) == (992, 62 * 16)
    steps = [line["steps"] for line in lines(tmp_path / "run")]
    assert steps == sorted(set(steps))
    assert sum(line["episodes"] for line in lines(tmp_path / "run")) == 62
    one, two = ((tmp_path / name / "eval.jsonl").read_text() for name in ("whole", "run"))
    assert one == two
    at = [json.loads(line)["steps"] for line in one.splitlines()]
    assert at == [208, 400, 608, 800, 992]
    stored = json.loads((tmp_path / "run/result.json").read_text())
    assert stored["resumed"] == [{"steps": 608, "exact": True}]
    assert [p.name for p in (tmp_path / "run/checkpoints").iterdir()] == ["000000000992.npz"]


def test_two_checkpoints_are_kept_and_half_written_ones_removed(loop, tmp_path):
    cut(loop, 720, checkpoint_every=100)
    there = [p.name for p in sorted((tmp_path / "run/checkpoints").iterdir())]
    assert there == ["000000000608.npz", "000000000704.npz"]
    (tmp_path / "run/checkpoints/.000000000800.npz.0123abcd").write_bytes(b"half")
    train(resume=True, checkpoint_every=300)  # how often is no part of what must be the same
    assert len(list((tmp_path / "run/checkpoints").iterdir())) == 1


def test_a_run_without_a_checkpoint_starts_again(loop, tmp_path):
    cut(loop, 150, checkpoint_every=0)
    assert train(resume=True, checkpoint_every=0).steps == 992
    assert not (tmp_path / "run/checkpoints").exists()
    steps = [line["steps"] for line in lines(tmp_path / "run")]
    assert steps == sorted(set(steps))


def test_new_episodes_are_announced_and_noted(loop, tmp_path, capsys):
    cut(loop, 400, checkpoint_every=300)
    loop.exact = False
    training.train(*ASKED, out="run", config=CONFIG, resume=True, checkpoint_every=300)
    assert "NOT exactly" in capsys.readouterr().err
    stored = json.loads((tmp_path / "run/result.json").read_text())
    assert stored["resumed"] == [{"steps": 304, "exact": False}]


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def shorten(path):
    path.write_bytes(path.read_bytes()[:-40])


def belonging_to_another(path):
    arrays = dict(np.load(path))
    about = json.loads(arrays["about"].tobytes()) | {"config_hash": "0" * 16}
    np.savez(path, **{**arrays, "about": np.frombuffer(json.dumps(about).encode(), np.uint8)})


def pickled(path):
    np.savez(path, about=np.array([{"a": 1}], object))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (flip, "npz': .*remove it to go on from 000000000608.npz"),
        (shorten, "npz': .*remove it to go on from 000000000608.npz"),
        (lambda path: path.write_bytes(b""), "npz': "),
        (belonging_to_another, "belongs to a run with other settings"),
        (pickled, "allow_pickle"),
        (lambda path: np.savez(path, x=np.zeros(3)), "about"),
    ],
)
def test_a_torn_or_foreign_checkpoint_is_refused(loop, tmp_path, spoil, said):
    cut(loop, 720, checkpoint_every=100)
    newest = tmp_path / "run/checkpoints/000000000704.npz"
    spoil(newest)
    log = (tmp_path / "run/metrics.jsonl").read_bytes()
    with pytest.raises(UsageError, match=said):
        train(resume=True, checkpoint_every=100)
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == log
    newest.unlink()
    assert train(resume=True, checkpoint_every=100).steps == 992


def test_other_settings_are_named(loop):
    cut(loop, 400, seed=3)
    said = (
        r"seed 3 \(here 4\), learning_rate .* \(here 0.5\); go on with: tiebreak train .*--seed 3"
    )
    with pytest.raises(UsageError, match=said):
        train(seed=4, overrides={"learning_rate": 0.5}, resume=True)
    with pytest.raises(UsageError, match=r"eval_every 0 \(here 100\)"):
        train(seed=3, eval_every=100, resume=True)


DECIDING = {
    "algorithm": "sac", "framework": "nnx", "task": "gymnax/Acrobot-v1", "mode": "eager",
    "loop": "host", "seed": 4, "precision": "float64", "device": "gpu", "eval_episodes": 3,
    "eval_every": 7,
}  # fmt: skip
"""Another value of everything that decides what a run computes and writes, beside its settings."""


@pytest.mark.parametrize("name", DECIDING)
def test_each_name_that_decides_a_run_is_compared(loop, tmp_path, name):
    cut(loop, 400)
    path = tmp_path / "run/config.json"
    stored = json.loads(path.read_text())
    now = stored[name]
    path.write_text(json.dumps({**stored, name: DECIDING[name]}))
    said = re.escape(f"other settings: {name} {DECIDING[name]} (here {now}); go on with")
    with pytest.raises(UsageError, match=said):
        train(resume=True)
    assert json.loads(path.read_text())[name] == DECIDING[name]


def test_each_setting_of_the_algorithm_is_compared(loop, tmp_path):
    cut(loop, 400)
    path = tmp_path / "run/config.json"
    stored = json.loads(path.read_text())
    words = {
        "optimizer": "sgd", "prng": "rbg", "activation": "relu", "truncation": "terminal",
        "network": "simba", "drift": "dpo",
    }  # fmt: skip
    for name, now in stored["config"].items():
        was = words.get(name) or another(now)
        path.write_text(json.dumps({**stored, "config": {**stored["config"], name: was}}))
        with pytest.raises(UsageError, match=re.escape(f"settings: {name} {was} (here {now})")):
            train(resume=True)


def another(value):
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    return [*value, 3] if isinstance(value, list) else value + 1


def test_what_cannot_be_resumed_is_said(loop, tmp_path):
    with pytest.raises(UsageError, match="needs --out DIR"):
        train(out=None, resume=True)
    with pytest.raises(UsageError, match="no run to resume"):
        train(resume=True)
    train()
    with pytest.raises(UsageError, match="is complete"):
        train(resume=True)
    (tmp_path / "run/config.json").write_text("{")
    with pytest.raises(UsageError, match=r"config.json' cannot be read"):
        train(resume=True)


def test_a_log_that_was_shortened_by_hand_is_refused(loop, tmp_path):
    cut(loop, 400, checkpoint_every=300)
    (tmp_path / "run/metrics.jsonl").write_text("")
    with pytest.raises(UsageError, match="is shorter than"):
        train(resume=True, checkpoint_every=300)


def test_two_processes_cannot_train_into_one_folder(loop):
    seen = []

    def before_run(number):
        if number == 9:
            loop.before_run = lambda number: None
            with pytest.raises(UsageError, match="another process is training into 'run'"):
                train(resume=True)
            seen.append(number)

    loop.before_run = before_run
    train()
    assert seen == [9]


HALF_WRITTEN = {
    ".config.json.0123abcd", ".result.json.ffffffff", ".policy.safetensors.00000000",
    "checkpoints/.000000000600.npz.12345678",
}  # fmt: skip
OTHERS = {
    ".config.json.backup", ".notes.0123abcd", ".policy.safetensors.0000000g",
    "checkpoints/.mine.npz.12345678",
}  # fmt: skip


def test_what_a_killed_process_has_half_written_is_removed_and_nothing_else(loop, tmp_path):
    cut(loop, 400, checkpoint_every=300)
    run = tmp_path / "run"
    for name in HALF_WRITTEN | OTHERS:
        (run / name).write_text("{")
    train(resume=True, checkpoint_every=300)
    assert {str(path.relative_to(run)) for path in run.rglob(".*")} == OTHERS


def test_a_process_killed_before_it_has_written_anything_leaves_a_new_folder(loop, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.config.json.0123abcd").write_text("{")
    train()
    assert not list((tmp_path / "run").glob(".*"))


def test_a_process_killed_while_it_makes_its_folder_leaves_one_to_resume(
    loop, tmp_path, monkeypatch
):
    def killed(*_):
        shutil.copytree("run", "killed")
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(session, "make_trackers", killed)
        with pytest.raises(RuntimeError, match="killed"):
            train(checkpoint_every=300)
    shutil.rmtree("run")
    shutil.move("killed", "run")
    assert train(resume=True, checkpoint_every=300).steps == 992


def test_a_folder_is_locked_before_its_checkpoint_is_read(loop, monkeypatch):
    cut(loop, 400, checkpoint_every=300)
    monkeypatch.setattr(checkpoints, "load", lambda *_: pytest.fail("it was read"))
    with (
        hold("run", "training"),
        pytest.raises(UsageError, match="another process is training into 'run'"),
    ):
        train(resume=True, checkpoint_every=300)


def test_a_full_disk_ends_in_one_line_and_keeps_the_last_checkpoint(loop, monkeypatch):
    whole = np.savez

    def savez(file, **arrays):
        if loop.steps > 300:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        whole(file, **arrays)

    monkeypatch.setattr(checkpoints.np, "savez", savez)
    with pytest.raises(
        session.TrainingFailed,
        match=r"cannot write .*0400.npz.: No space left.*make room in .run.; go on .* --resume$",
    ):
        train(checkpoint_every=200)
    monkeypatch.setattr(checkpoints.np, "savez", whole)
    assert train(checkpoint_every=200, resume=True).steps == 992


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--eval-every", "-1"), "eval_every is -1"),
        (("--checkpoint-every", "-5"), "checkpoint_every is -5"),
        (("--eval-every", "100", "--eval-episodes", "0"), "eval_episodes is 0"),
        (("--resume",), "--resume needs --out DIR"),
        (("--resume", "--out", "nowhere"), "no run to resume"),
        (("--eval-every", "often"), "invalid int value"),
    ],
)
def test_wrong_options_end_in_one_line(options, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ("train", "ppo", "--framework", "linen", "--task", "gymnax/CartPole-v1")
    assert cli.main([*command, *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error
