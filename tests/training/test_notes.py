"""What the user is told: other names of settings, the rounded budget, what is being compiled."""

from __future__ import annotations

import dataclasses

import pytest
from training.fakes import CONFIG
from training.test_training import train

from tiebreak.core.errors import UsageError


def said(capsys):
    return capsys.readouterr().err.splitlines()


def test_the_first_lines_say_what_a_setting_became_and_what_a_budget_is_rounded_to(loop, capsys):
    train(overrides={"lr": "1e-3"}, progress=True)
    lines = said(capsys)
    assert loop.config.learning_rate == 1e-3
    assert lines[0].endswith(": lr is learning_rate here")
    assert lines[1].endswith(
        ": trains 992 steps for total_steps=1000: whole iterations, of 16 steps each"
    )


def test_a_budget_of_whole_iterations_is_not_mentioned(loop, capsys):
    train(config=dataclasses.replace(CONFIG, total_steps=992), progress=True)
    assert not [line for line in said(capsys) if "total_steps" in line]


def test_it_is_said_when_the_update_is_compiled_in_the_middle_of_a_run(loop, capsys):
    loop.warmup_steps = 320
    train(progress=True)
    lines = said(capsys)
    assert sum("compiling the update …" in line for line in lines) == 1
    loop.warmup_steps, loop.runtime.mode = 0, "eager"
    train(out="eager", progress=True)
    assert not [line for line in said(capsys) if "compiling" in line]


def test_a_name_for_several_settings_sets_all_and_cannot_be_swept(loop):
    from tiebreak.envs.task import Task
    from tiebreak.training.request import TrainingRequest

    request = TrainingRequest(
        "td3", "linen", Task.parse("gymnax/Pendulum-v1"), seeds=1, sweep={"lr": [1e-3]}
    )
    with pytest.raises(UsageError, match="lr is actor_lr and critic_lr here: sweep one of them"):
        request.resolve()
