"""Which state of the source was running: a commit, and what differs from it."""

from __future__ import annotations

import json
import subprocess

from tiebreak.core.git import ROOT, commit, output
from tiebreak.training.train import train


def git(folder, *words):
    me = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", folder, *me, *words], check=True, capture_output=True)


def test_a_commit_and_a_hash_of_what_differs_from_it(tmp_path):
    source = tmp_path / "src" / "one.py"
    source.parent.mkdir()
    source.write_text("1\n")
    assert commit(tmp_path) == ""  # no checkout: an installed package
    git(tmp_path, "init", "-q")
    assert commit(tmp_path).startswith("uncommitted+")
    git(tmp_path, "add", "src")
    git(tmp_path, "commit", "-q", "-m", "one")
    clean = commit(tmp_path)
    assert len(clean) == 12
    (tmp_path / "notes").write_text("not the source\n")
    assert commit(tmp_path) == clean
    source.write_text("2\n")
    changed = commit(tmp_path)
    assert changed.startswith(f"{clean}+")
    source.write_text("3\n")
    assert commit(tmp_path) not in (clean, changed)


def test_what_is_not_there_or_fails_says_nothing():
    assert output(["no-such-program"]) == ""
    assert output(["git", "-C", str(ROOT), "no-such-command"]) == ""
    assert output(["sh", "-c", "echo half; exit 1"]) == ""


def test_a_training_says_which_commit_it_was(tmp_path):
    train(
        "ppo", "torch", "gymnasium/CartPole-v1", mode="eager", out=tmp_path, eval_episodes=0,
        progress=False, overrides={"total_steps": 64, "num_envs": 4, "num_steps": 16},
    )  # fmt: skip
    about = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert about["commit"] == commit()
