"""Policies are kept during training, the best one beside the last; training ends at a return."""

from __future__ import annotations

import json

import pytest
from training.fakes import CONFIG
from training.test_resume import cut
from training.test_training import ASKED, lines, train

from tiebreak import cli
from tiebreak.core.errors import UsageError
from tiebreak.training import policy_files, session
from tiebreak.training import train as training

EVERY = {"eval_every": 200, "checkpoint_every": 300}
RETURNS = {208: 1.0, 400: 9.0, 608: 3.0, 800: 4.0, 1008: 2.0}
"""Steps -> mean greedy return."""


@pytest.fixture
def scripted(loop, monkeypatch):
    """Evaluations give RETURNS, by the steps of the loop."""

    class Evaluator:
        cut, limit = 0, 10

        def __init__(self, **_):
            pass

        def returns(self, state):
            return [RETURNS[loop.steps]] * 2

        def close(self):
            pass

    monkeypatch.setattr(session, "Evaluator", Evaluator)
    return loop


def result_of(folder):
    return json.loads((folder / "result.json").read_text())


def test_a_policy_is_written_with_every_checkpoint(loop, tmp_path):
    cut(loop, 800, checkpoint_every=300)
    assert policy_files.load_policy("run").metadata["steps"] == 608
    train(resume=True, checkpoint_every=300)
    assert policy_files.load_policy("run").metadata["steps"] == 992


def test_ctrl_c_in_the_middle_says_which_policy_is_kept(loop):
    def before_run(number):
        if loop.steps > 700:
            raise KeyboardInterrupt

    loop.before_run = before_run
    with pytest.raises(session.TrainingInterrupted, match="policy of the last checkpoint is kept"):
        train(checkpoint_every=300)


def test_the_best_policy_is_kept_and_named(scripted, tmp_path, capsys):
    result = training.train(*ASKED, out="run", config=CONFIG, keep_best=True, **EVERY)
    best = {"policy": "policy-best.safetensors", "return_mean": 9.0, "steps": 400}
    assert result.best == best
    assert result_of(tmp_path / "run")["best"] == best
    assert policy_files.load_policy("run/policy-best.safetensors").metadata["steps"] == 400
    assert policy_files.load_policy("run").metadata["steps"] == 992


def test_the_best_policy_outlives_a_kill(scripted, tmp_path):
    cut(scripted, 700, keep_best=True, **EVERY)
    assert train(keep_best=True, resume=True, **EVERY).best["steps"] == 400
    (tmp_path / "run/policy-best.safetensors").write_bytes(b"torn")
    more = {"overrides": {"total_steps": 1100}, "keep_best": True}
    assert train(resume=True, **more, **EVERY).best["steps"] == 1088


def test_training_ends_when_a_return_is_reached(scripted, tmp_path, capsys):
    result = training.train(*ASKED, out="run", config=CONFIG, stop_at=8.5, **EVERY)
    assert (result.stopped_at, result.steps) == (400, 400)
    assert result_of(tmp_path / "run")["stopped_at"] == 400
    assert "training ends at 400 steps: greedy return 9.0 reaches 8.5" in capsys.readouterr().err
    evaluations = (tmp_path / "run/eval.jsonl").read_text().splitlines()
    assert [json.loads(line)["steps"] for line in evaluations] == [208, 400]


def test_a_training_that_has_stopped_goes_on_exactly(scripted, tmp_path):
    train(out="whole", **EVERY)
    scripted.updates = 0
    train(stop_at=8.5, **EVERY)
    with pytest.raises(UsageError, match=r"reached its --stop-at, .* higher one: .*--stop-at 8.5"):
        train()
    again = train(stop_at=8.5, resume=True, **EVERY)
    assert (again.stopped_at, again.steps) == (400, 400)
    result = train(resume=True, **EVERY)
    assert (result.stopped_at, result.steps) == (None, 992)
    one, two = ((tmp_path / name / "eval.jsonl").read_text() for name in ("whole", "run"))
    assert one == two
    assert sum(line["episodes"] for line in lines(tmp_path / "run")) == 62


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--keep-best",), "keep_best needs evaluations during training: add"),
        (("--stop-at", "5"), "stop_at needs evaluations during training: add"),
        (("--stop-at", "nan", "--eval-every", "9"), "stop_at is nan"),
        (("--eval-max-steps", "0"), "eval_max_steps is 0; it must be in 1 to"),
    ],
)
def test_wrong_options_end_in_one_line(options, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ("train", "ppo", "--framework", "linen", "--task", "gymnax/CartPole-v1")
    assert cli.main([*command, *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


def test_the_command_of_a_run_has_its_options(scripted, tmp_path):
    train(keep_best=True, stop_at=8.5, eval_max_steps=70, **EVERY)
    command = json.loads((tmp_path / "run/config.json").read_text())["command"]
    assert "--eval-max-steps 70 --keep-best --stop-at 8.5" in command
    with pytest.raises(UsageError, match=r"eval_max_steps 70 \(here None\)"):
        train(resume=True, **EVERY)
