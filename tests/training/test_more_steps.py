"""A run goes on with more steps than it was begun with, as if it had had them from the start."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hygiene import tree
from training.fakes import CONFIG
from training.test_python_api import SMALL
from training.test_resume import EVERY, cut, evaluated  # noqa: F401 - a fixture
from training.test_training import ASKED, lines, train

import tiebreak
from tiebreak import registry
from tiebreak.core.errors import UsageError
from tiebreak.frameworks import weights
from tiebreak.training import session
from tiebreak.training import train as training

MORE = replace(CONFIG, total_steps=1990)


def stored(folder, name="config.json"):
    return json.loads((folder / name).read_text())


@pytest.mark.usefixtures("evaluated")
@pytest.mark.parametrize("is_complete", [True, False])
def test_more_steps_end_as_if_they_had_been_there_from_the_start(loop, tmp_path, is_complete):
    train(out="whole", config=MORE, **EVERY)
    loop.runs = loop.updates = 0
    if is_complete:
        train(**EVERY)
        at = 992
    else:
        cut(loop, 800, **EVERY)
        at = 608
    before = stored(tmp_path / "run")

    result = train(config=MORE, resume=True, **EVERY)
    assert result.steps == 1984
    steps = [line["steps"] for line in lines(tmp_path / "run")]
    assert steps == sorted(set(steps))
    assert sum(line["episodes"] for line in lines(tmp_path / "run")) == 124
    one, two = ((tmp_path / name / "eval.jsonl").read_text() for name in ("whole", "run"))
    assert one == two

    after = stored(tmp_path / "run")
    assert after["config"]["total_steps"] == 1990
    assert after["extended"] == [
        {"steps": at, "total_steps": 1000, "config_hash": before["config_hash"]}
    ]
    same = ("started_at", "versions", "spec")
    assert [after[name] for name in same] == [before[name] for name in same]
    whole = stored(tmp_path / "whole")
    assert [after[name] for name in ("config_hash", "command")] == [
        whole[name] for name in ("config_hash", "command")
    ]


@pytest.mark.slow(share=0.3)
def test_weights_of_a_longer_training_are_the_same_bit_for_bit(tmp_path):
    def train(out, total_steps, **more):
        tiebreak.train(
            "sac", "torch", env="Pendulum-v1", out=tmp_path / out,
            **{**SMALL, "total_steps": total_steps, "eval_every": 60, "eval_episodes": 1, **more},
        )  # fmt: skip
        return weights.load(tmp_path / out / "policy.safetensors")[0]

    whole = train("whole", 240)
    train("run", 120)
    longer = train("run", 240, resume=True)
    for name, array in whole.items():
        np.testing.assert_array_equal(longer[name], array, err_msg=name)


def test_a_kill_before_the_first_new_checkpoint_loses_nothing(loop, tmp_path):
    train(checkpoint_every=300)

    def before_run(number):
        shutil.copytree("run", "killed")
        raise RuntimeError("killed")

    loop.before_run = before_run
    with pytest.raises(RuntimeError, match="killed"):
        train(config=MORE, resume=True, checkpoint_every=300)
    shutil.rmtree("run")
    shutil.move("killed", "run")
    loop.before_run = lambda number: None
    assert train(config=MORE, resume=True, checkpoint_every=300).steps == 1984
    assert stored(tmp_path / "run", "result.json")["resumed"][0]["steps"] == 992
    assert len(stored(tmp_path / "run")["extended"]) == 1


def test_what_is_spread_over_the_steps_is_said(loop, capsys):
    train(checkpoint_every=300)
    training.train(*ASKED, out="run", config=MORE, resume=True)
    said = capsys.readouterr().err
    assert "total_steps 1,000 -> 1,990: the learning rate (anneal_lr) is spread over them" in said

    constant = {"overrides": {"anneal_lr": "false"}, "out": "constant"}
    train(checkpoint_every=300, **constant)
    training.train(*ASKED, config=MORE, resume=True, **constant)
    assert "total_steps 1,000 -> 1,990\n" in capsys.readouterr().err


def test_algorithms_that_read_the_number_of_steps_say_for_which_setting():
    for name, row in registry.ALGORITHMS.items():
        files = (tree.SRC / "algorithms" / name).glob("*.py")
        texts = [path.read_text() for path in files if path.name != "config.py"]
        reads = any("total_steps" in text or "num_iterations" in text for text in texts)
        assert reads == bool(row.schedules), name
        config = registry.config_module(name).Config()
        assert all(hasattr(config, setting) for setting, _ in row.schedules)


def test_what_cannot_go_on_is_said(loop):
    train(checkpoint_every=0)
    with pytest.raises(UsageError, match=r"complete.*more than its 1,000 steps by --set total_ste"):
        train(resume=True)
    with pytest.raises(UsageError, match=r"has no checkpoint .*: it cannot go on"):
        train(config=MORE, resume=True)
    train(out="two", config=MORE)
    with pytest.raises(UsageError, match=r"other settings: total_steps 1990 \(here 1000\)"):
        train(out="two", resume=True)


def test_a_folder_in_use_says_how_its_training_goes_on(loop):
    cut(loop, 400)
    said = (
        r"not empty: its training has not ended, .*: tiebreak train ppo .* --out run --resume; or"
    )
    with pytest.raises(UsageError, match=said):
        train()
    train(resume=True)
    with pytest.raises(UsageError, match=r"is complete, .* --resume --set total_steps=N; or name"):
        train()


def test_settings_are_kept_where_a_log_is_too_short_to_go_on(loop, tmp_path):
    cut(loop, 400, checkpoint_every=300)
    (tmp_path / "run/metrics.jsonl").write_text("")
    with pytest.raises(UsageError, match="is shorter than"):
        train(config=MORE, resume=True)
    assert stored(tmp_path / "run")["config"]["total_steps"] == 1000
    assert session.checkpoints.exists(tmp_path / "run")
