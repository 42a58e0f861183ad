"""What several tests of training stand on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from training.fakes import SPEC, FakeLoop

from tiebreak import registry
from tiebreak.training import request, session


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
