"""`tiebreak train --config FILE`: settings from TOML, JSON or an earlier run."""

from __future__ import annotations

import json
import os

import pytest

from tiebreak import cli
from tiebreak.commands.settings_file import read_settings
from tiebreak.commands.train import _request, parser
from tiebreak.core.errors import UsageError
from tiebreak.core.files import LARGEST_TEXT


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return str(path)


def test_settings_of_toml_json_and_an_earlier_run_are_the_same(tmp_path):
    settings = {"gamma": 0.9, "hidden_sizes": [8, 8], "activation": "relu"}
    toml = 'gamma = 0.9\nhidden_sizes = [8, 8]\nactivation = "relu"\n'
    run = {"algorithm": "ppo", "framework": "nnx", "config": settings}
    for path in (
        write(tmp_path, "mine.toml", toml),
        write(tmp_path, "mine.json", json.dumps(settings)),
        write(tmp_path, "config.json", json.dumps(run)),
    ):
        assert read_settings(path, "ppo") == settings


def test_what_is_set_on_the_command_line_counts_more(tmp_path):
    path = write(tmp_path, "mine.toml", "gamma = 0.9\nnum_envs = 8\n")
    words = ["ppo", "--framework", "linen", "--task", "gymnax/CartPole-v1", "--config", path]
    request = _request(parser().parse([*words, "--set", "gamma=0.8"]))
    assert request.overrides == {"gamma": "0.8", "num_envs": 8}


def test_a_run_is_repeated_from_its_own_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["train", "ppo", "--framework", "torch", "--mode", "eager", "--eval-episodes", "1"]
    words += ["--task", "gymnasium/CartPole-v1"]
    small = ["--set", "total_steps=64", "--set", "num_steps=16", "--set", "hidden_sizes=8,"]
    assert cli.main([*words, *small, "--out", "first"]) == 0
    assert cli.main([*words, "--config", "first/config.json", "--out", "again"]) == 0
    first, again = (json.loads((tmp_path / name / "config.json").read_text())
                    for name in ("first", "again"))  # fmt: skip
    assert first["config"] == again["config"]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.toml", "gamma = ", "'.*a.toml' is not TOML: Invalid value"),
        ("a.json", "{", "'.*a.json' is not JSON: "),
        ("a.json", "[1]", "holds no settings"),
        ("a.json", "[" * 100_000, "is not JSON"),
        ("a.toml", "gama = 0.9", "a.toml': unknown setting 'gama'; did you mean 'gamma'"),
        ("a.toml", "gamma = 'high'", "a.toml': gamma takes float, got 'high'"),
        ("config.json", '{"algorithm": "sac", "config": {}}', "the settings of 'sac', not of ppo"),
        ("a.toml", "#" * (LARGEST_TEXT + 1), "it has 1.0 MiB, and at most 1 MiB are read"),
    ],
)
def test_a_file_that_is_wrong_is_one_line(tmp_path, name, text, says):
    with pytest.raises(UsageError, match=says):
        read_settings(write(tmp_path, name, text), "ppo")


def test_what_is_no_file_is_one_line(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    for path, says in (
        (tmp_path / "none.toml", "No such file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "pipe", "it is a pipe or a device, not a file"),
        (tmp_path / "bytes.toml", "can't decode byte"),
        ("a\0b", "null"),
    ):
        with pytest.raises(UsageError, match=says):
            read_settings(str(path), "ppo")
