"""`tiebreak list --settings`: every setting of every algorithm, with its value and what it is."""

from __future__ import annotations

import dataclasses
import json

import pytest

from tiebreak import cli, registry
from tiebreak.commands.settings_table import settings


@pytest.mark.parametrize("algorithm", registry.ALGORITHMS)
def test_every_setting_is_listed_with_what_it_is(algorithm):
    rows = settings(algorithm)
    fields = dataclasses.fields(registry.config_module(algorithm).Config)
    assert [row.name for row in rows] == [field.name for field in fields]
    assert all(len(row.meaning) > 10 for row in rows)
    assert all(row.default == row.reference for row in rows)


def test_the_text_of_the_algorithm_itself_counts():
    by_name = {row.name: row for row in settings("mpo")}
    assert by_name["max_grad_norm"].meaning.startswith("Gradient norm above which")
    assert by_name["gamma"].meaning == "Discount per step."


def test_a_task_s_reference_stands_beside_the_default(capsys):
    command = ["list", "--settings", "ppo", "--task", "gymnasium/Pendulum-v1"]
    assert cli.main([*command, "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows["num_steps"]["default"], rows["num_steps"]["reference"]) == (128, 2048)
    assert cli.main(command) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in rows)
    assert "--set NAME=VALUE" in printed


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--settings", "ppoo"], "unknown algorithm 'ppoo'; did you mean 'ppo'"),
        (["--settings", "dqn", "--task", "gymnasium/Pendulum-v1"], "dqn needs discrete actions"),
        (["--task", "gymnasium/Pendulum-v1"], "--task goes with --settings ALGORITHM"),
        (["--settings", "ppo", "--tasks"], "--settings does not go with --tasks"),
    ],
)
def test_what_makes_no_sense_is_one_line(capsys, words, says):
    assert cli.main(["list", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error
