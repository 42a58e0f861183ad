"""Settings of a contestant come from a process, whatever else that prints."""

from __future__ import annotations

import subprocess

import pytest

from tiebreak.bench.manager import settings
from tiebreak.bench.suite.plan import Cell

CELL = Cell("ppo", "torch", "", "gymnasium/CartPole-v1", "host", "train", contestant="mine:make")


@pytest.fixture(autouse=True)
def _nothing_is_remembered():
    settings._resolve.cache_clear()
    yield
    settings._resolve.cache_clear()


def answer(monkeypatch, stdout):
    def run(command, **options):
        return subprocess.CompletedProcess(command, 0, stdout, "")

    monkeypatch.setattr(subprocess, "run", run)


@pytest.mark.parametrize("printed", ["", "a warning\n", "one\ntwo\nthree\n"])
def test_the_last_line_counts(monkeypatch, printed):
    answer(monkeypatch, printed + '{"num_envs": 4}\n')
    assert settings.resolved_settings(CELL) == {"num_envs": 4}
    assert settings.why_unresolved(CELL) == ""


@pytest.mark.parametrize("stdout", ["", "no JSON\n"])
def test_what_is_no_answer_is_told_in_a_line(monkeypatch, stdout):
    answer(monkeypatch, stdout)
    assert settings.resolved_settings(CELL) == {}
    assert settings.why_unresolved(CELL).startswith("its settings cannot be resolved: ")
