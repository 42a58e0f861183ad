"""What several tests of training stand on."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from training.fakes import SPEC, FakeLoop
from training.many_agents import STUB

from tiebreak import registry
from tiebreak.training import agents, jobs, request, session


@pytest.fixture
def loop(monkeypatch, tmp_path):
    """The loop that `train` will get; evaluation returns 4 episodes of 5."""
    made = FakeLoop()

    def make_loop(*_, config=None, **kwargs):
        made.config, made.steps = config or made.config, 0
        return made

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "missing_packages", lambda packages: [])
    monkeypatch.setattr(session, "make_loop", make_loop)
    monkeypatch.setattr(request, "make_spec", lambda task: SPEC)
    found = SimpleNamespace(returns=[5.0] * 4, cut=0, max_steps=10)
    monkeypatch.setattr(session, "evaluate", lambda *_, **__: found)
    return made


@pytest.fixture
def stub(monkeypatch, tmp_path):
    """Agents are stubs; the working folder is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobs, "PROGRAM", (sys.executable, "-S", str(STUB)))
    monkeypatch.setattr(jobs, "POLL_S", 0.01)
    monkeypatch.setattr(registry, "missing_packages", lambda packages: [])
    for module in (request, agents):
        monkeypatch.setattr(module, "make_spec", lambda task: SPEC)
