"""Rows of the probe table and the probes that they name agree."""

from __future__ import annotations

import pytest

from tiebreak.bench.probe_table import ALIASES, PROBES
from tiebreak.bench.probes.subject import load_builder, make_subject
from tiebreak.bench.suite.cells import ENVIRONMENT_ALONE, LOOPS
from tiebreak.bench.suite.plan import Cell, Job

CONFIG = {"num_steps": 16, "num_minibatches": 2, "num_epochs": 1}
ON_HOST = [name for name, row in PROBES.items() if "host" in row.loops]


@pytest.mark.parametrize("name", ON_HOST)
def test_probes_are_built_as_their_rows_say(name):
    pytest.importorskip("torch")
    pytest.importorskip("gymnasium")
    row = PROBES[name]
    framework = ENVIRONMENT_ALONE["host"] if row.once_per_engine else "torch"
    mode = "" if row.once_per_engine else "eager"
    task = "gymnasium/CartPole-v1"
    cell = Cell("ppo", framework, mode, task, "host", name, num_envs=2, config=CONFIG)
    subject = make_subject(Job((cell,), seed=3, threads=2))
    subject.build()
    probe = subject.probe(name)
    assert probe.unit == row.unit
    assert tuple(probe.expected) == row.work
    assert probe.learns == row.learns
    assert probe.compiles == row.compiles
    subject.close()


@pytest.mark.parametrize("name", PROBES)
def test_rows_lead_to_builders(name):
    assert callable(load_builder(name))
    assert set(PROBES[name].loops) <= set(LOOPS)


def test_aliases_stand_for_probes_with_a_column():
    for names in ALIASES.values():
        assert all(PROBES[name].title for name in names)
