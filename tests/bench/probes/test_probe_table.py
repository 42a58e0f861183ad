"""Rows of the probe table and the probes that they name agree."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tiebreak.bench.probe_table import ALIASES, PROBES
from tiebreak.bench.probes import agent as agent_probes
from tiebreak.bench.probes.subject import load_builder, make_subject
from tiebreak.bench.suite.cells import ENVIRONMENT_ALONE, LOOPS
from tiebreak.bench.suite.plan import Cell, Job

CONFIG = {"num_steps": 16, "num_minibatches": 2, "num_epochs": 1}
ON_HOST = [name for name, row in PROBES.items() if "host" in row.loops]
UNITS = {
    "forward": 2, "env": 128, "interact": 32, "update": 2, "train": 32, "iteration": 32,
    "rebuild": 1, "solve": 1,
}  # fmt: skip
"""Units of one call: actions of 2 environments, 64 steps of each alone, a rollout of 16 of each,
one epoch of 2 minibatches; one iteration is one rollout; a solution is one."""


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
    assert probe.units_per_call == UNITS[name]
    assert tuple(probe.expected) == row.work
    assert probe.learns == row.learns
    assert probe.compiles == row.compiles
    assert probe.once == row.once
    subject.close()


@pytest.mark.parametrize("agents", [1, 3])
def test_a_population_s_units_are_the_steps_of_all_agents(agents):
    """Two rollouts of 16 steps of 2 environments a call, with 2 minibatches for each."""
    loop: Any = SimpleNamespace(steps=0, updates=0, agents=agents, is_warmup=False)
    config = SimpleNamespace(iteration_steps=32, updates_per_iteration=2)
    probe = agent_probes._learning(SimpleNamespace(config=config), loop, iterations=2)
    assert probe.units_per_call == 64 * agents
    assert probe.expected == {
        "env_steps": 64 * agents, "updates": 4 * agents, "optimizer_steps": 4 * agents,
    }  # fmt: skip


@pytest.mark.parametrize("name", PROBES)
def test_rows_lead_to_builders(name):
    assert callable(load_builder(name))
    assert set(PROBES[name].loops) <= set(LOOPS)


def test_aliases_stand_for_probes_with_a_column():
    for names in ALIASES.values():
        assert all(PROBES[name].title for name in names)
