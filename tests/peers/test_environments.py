"""Environments of peers: made, found, refused, removed. Nothing is downloaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tiebreak.bench.machine.availability import why_unavailable
from tiebreak.bench.suite import suite
from tiebreak.cli import main
from tiebreak.core.errors import UsageError
from tiebreak.peers import environments
from tiebreak.peers.table import PEERS, Peer

FAKE = Peer(
    title="Fake",
    version="1.0",
    url="example.org/fake",
    requirements=(),
    packages=("numpy",),
    adapter="bench.fake_contestant:Fake",
    games={"ppo": ("gymnasium",)},
    differences={"ppo": "it steps at random"},
)


@pytest.fixture(autouse=True)
def fake(tmp_path, monkeypatch):
    """Add a peer `fake` without requirements, and keep environments in a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(PEERS, "fake", FAKE)


def test_an_installed_peer_sees_our_packages_after_its_own_and_no_tiebreak(tmp_path, capsys):
    assert "tiebreak peers install fake" in environments.why_unavailable("fake")
    assert main(["peers", "install", "fake"]) == 0
    assert environments.why_unavailable("fake") == ""
    script = "import importlib.util, json, sys, numpy; print(json.dumps([sys.path, sys.prefix]))"
    done = subprocess.run(
        [environments.interpreter("fake"), "-P", "-c", script],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    path, prefix = json.loads(done.stdout)
    assert Path(prefix) == tmp_path / "cache" / "tiebreak" / "peers" / "fake"
    packages = [entry for entry in path if entry.endswith("site-packages")]
    assert packages[0].startswith(prefix)
    assert packages[1:] == environments._base()
    assert not any((Path(entry) / "tiebreak").is_dir() for entry in path)

    assert main(["peers", "remove", "fake"]) == 0
    assert "tiebreak peers install fake" in environments.why_unavailable("fake")


def test_an_environment_of_other_versions_is_not_used(monkeypatch):
    environments.install("fake", say=lambda line: None)
    monkeypatch.setitem(PEERS, "fake", FAKE._replace(version="2.0", requirements=("fake==2.0",)))
    assert "is installed in another version than 2.0" in environments.why_unavailable("fake")
    monkeypatch.setitem(PEERS, "fake", FAKE)
    monkeypatch.setattr(environments, "_base", lambda: ["/elsewhere"])
    assert "for another Python environment" in environments.why_unavailable("fake")


def test_pip_is_held_to_our_array_libraries(monkeypatch):
    commands = []

    def run(command, **options):
        constraints = Path(command[command.index("-c") + 1]).read_text().split()
        commands.append((command, constraints))
        return subprocess.CompletedProcess(command, 1, "", "ERROR: no\nERROR: no such version\n")

    monkeypatch.setitem(PEERS, "fake", FAKE._replace(requirements=("fake==1.0",)))
    monkeypatch.setattr(environments.subprocess, "run", run)
    with pytest.raises(UsageError, match=r"could not install Fake 1\.0: ERROR: no such version"):
        environments.install("fake", say=lambda line: None)
    ((command, constraints),) = commands
    assert command[:3] == [sys.executable, "-m", "pip"]
    assert command[-1] == "fake==1.0"
    assert environments.interpreter("fake") in command
    assert any(line.startswith("numpy==") for line in constraints)
    assert environments.why_unavailable("fake")


def test_a_peer_that_cannot_be_imported_is_not_installed(monkeypatch):
    monkeypatch.setitem(PEERS, "fake", FAKE._replace(packages=("no_such_package",)))
    with pytest.raises(UsageError, match="fails: ModuleNotFoundError: No module named"):
        environments.install("fake", say=lambda line: None)
    assert "is not installed" in environments.why_unavailable("fake")


def test_a_checkout_is_named_once_and_has_to_stay(tmp_path, monkeypatch):
    monkeypatch.setitem(PEERS, "fake", FAKE._replace(is_checkout=True))
    with pytest.raises(UsageError, match=r"clone example.org/fake \(tested: 1.0\), then tiebreak"):
        environments.install("fake")
    with pytest.raises(UsageError, match="there is no folder"):
        environments.install("fake", checkout=str(tmp_path / "none"))
    source = tmp_path / "clone"
    source.mkdir()
    environments.install("fake", checkout=str(source), say=lambda line: None)
    environments.install("fake", say=lambda line: None)  # the folder is known
    assert environments.checkout("fake") == str(source)
    source.rmdir()
    assert "is gone: tiebreak peers install fake" in environments.why_unavailable("fake")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["instal"], "peers takes list, install, remove, show, got 'instal'"),
        (["install"], "install what?"),
        (["install", "sb4"], "unknown peer 'sb4'; did you mean"),
        (["install", "cleanrl"], "CleanRL is no package: clone"),
        (["install", "sb3", "--checkout", "sb3=a"], "Stable-Baselines3 is a package: leave"),
        (["install", "sb3", "--checkout", "cleanrl=a"], "--checkout names cleanrl, which is not"),
        (["install", "cleanrl", "--checkout", "a"], "--checkout takes PEER=DIR, got 'a'"),
        (["--checkout", "cleanrl=a"], "--checkout goes with install"),
    ],
)
def test_wrong_use_is_one_line(arguments, message, capsys):
    assert main(["peers", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_list_says_what_is_here_and_what_helps(capsys):
    assert main(["peers"]) == 0
    text = capsys.readouterr().out
    assert "Stable-Baselines3 is not installed: tiebreak peers install sb3" in text
    assert main(["peers", "show", "sb3"]) == 0
    assert "ppo on gymnasium: the clipped value loss" in capsys.readouterr().out
    assert main(["peers", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in described} == set(PEERS)


def test_what_is_not_installed_is_left_out_of_a_race_with_its_command():
    cells = suite.load("peers", "smoke", 0).cells
    reasons = {cell.peer: why_unavailable(cell) for cell in cells if cell.peer}
    assert "tiebreak peers install sb3" in reasons["sb3"]
    assert "tiebreak peers install cleanrl --checkout cleanrl=DIR" in reasons["cleanrl"]


def test_every_game_of_the_suite_has_its_differences():
    plan = suite.load("peers", "full", 0)
    known = {(d["label"], d["algorithm"]) for d in plan.differences}
    assert {(c.label, c.algorithm) for c in plan.cells if c.peer} == known
