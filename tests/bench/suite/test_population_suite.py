"""The probe `population`: its cells, its counted work, and its sheet."""

from __future__ import annotations

import re

import pytest
from bench.probes.test_agent_probes import ITERATION, measured, subject
from bench.suite.test_suite import load
from stats import synthetic

from tiebreak.bench.suite import suite
from tiebreak.core.errors import MissingMemory, UsageError
from tiebreak.report import answer, cross_tables
from tiebreak.stats.ratios import summarize

MINIMAL = """
[scales.quick]
blocks = 2
[[races]]
task = "gymnax/CartPole-v1"
probes = ["population"]
rows = [{ framework = "linen" }, { framework = "nnx" }]
agents = [1, 4]
"""


def test_numbers_of_agents_are_races(tmp_path):
    plan = load(tmp_path, MINIMAL)
    race = "ppo · gymnax/CartPole-v1 · population · num_envs 1 · agents"
    assert {name: len(ids) for name, ids in plan.groups().items()} == {
        f"{race} 1": 2,
        f"{race} 4": 2,
    }
    assert "agents" not in plan.cells[0].to_json()
    assert plan.cells[-1].to_json()["agents"] == 4


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("population", "train", "agents is for the probe population, not for train"),
        ("linen", "torch", "needs loop 'fused'"),
        ('"linen"', '"linen", loop = "host"', "needs loop 'fused'"),
        ("gymnax", "gymnasium", "needs loop 'fused'"),
        ("[1, 4]", "[1, 0]", "agents takes a whole number above 0"),
    ],
)
def test_races_of_agents_that_cannot_be_are_refused(tmp_path, old, new, said):
    with pytest.raises(UsageError, match=said):
        load(tmp_path, MINIMAL.replace(old, new))


@pytest.mark.parametrize("scale", ["quick", "full"])
def test_the_built_in_suite_goes_from_1_to_2048(scale):
    cells = suite.load("population", scale, 0).cells
    agents = {c.agents for c in cells if (c.algorithm, c.framework) == ("ppo", "nnx")}
    assert agents <= {2**i for i in range(12)}
    assert (min(agents), max(agents)) == (1, 2048)
    assert scale == "quick" or len(agents) == 12


@pytest.mark.parametrize("scale", ["smoke", "quick", "full"])
def test_one_torch_agent_has_the_settings_of_every_population(scale):
    def settings(cell):
        name = cell.task.partition("/")[2]
        return name, cell.algorithm, cell.num_envs, cell.size, str(sorted(cell.config.items()))

    cells = suite.load("population", scale, 0).cells
    populations = {settings(c) for c in cells if c.probe == "population"}
    torch = [c for c in cells if c.probe == "train"]
    if scale == "smoke":  # FastTD3's is only there to see that it runs
        populations = {one for one in populations if one[1] != "fasttd3"}
    assert {settings(c) for c in torch} == populations
    assert {(c.framework, c.agents) for c in torch} == {("torch", 1)}
    assert {c.task.partition("/")[0] for c in torch} == {"gymnax", "gymnasium"}


def test_agents_that_do_not_fit_are_left_out_with_the_reason(monkeypatch):
    from tiebreak.bench.worker import main as worker
    from tiebreak.loops import fused_population

    monkeypatch.setattr(fused_population, "available_bytes", lambda: 2**10)
    made = subject("linen", "jit", agents=3)
    with pytest.raises(MissingMemory, match=r"3 agents take .* are free here") as caught:
        made.probe("population")
    found = worker._failure(caught.value)
    assert found["status"] == "missing"
    assert found["error"].startswith("3 agents take")


@pytest.mark.slow
@pytest.mark.parametrize(("framework", "mode"), [("linen", "jit"), ("nnx", "split")])
def test_the_work_of_all_agents_is_counted(framework, mode):
    made = subject(framework, mode, agents=3)
    result = measured(made, ["population"])["population"]
    units = 3 * ITERATION * (10_000 // (3 * ITERATION))
    assert result["units_per_sample"] == units * result["calls_per_sample"]
    assert result["work"]["env_steps"] == result["work"]["calls"] * units
    assert result["work"]["optimizer_steps"] == result["work"]["updates"]


def test_numbers_of_agents_stand_below_one_another():
    records = []
    for agents, each in ((4, 5e-6), (1, 1e-5), (16, 5e-6)):
        group = f"ppo · gymnax/CartPole-v1 · population · num_envs 4 · agents {agents}"
        record = synthetic.visit("linen jit", 0, [each] * 5, group=group)
        record["cell"] = {**record["cell"], **({"agents": agents} if agents > 1 else {})}
        records.append(record)
    (sheet,) = cross_tables.cross_tables(summarize(records))
    assert sheet.title == "population · ppo · gymnax/CartPole-v1 · num_envs 4"
    assert sheet.rows == (
        ("linen jit · fused", "1", "100k", "100k", "1.00×", "412 MB"),
        ("linen jit · fused", "4", "200k", "50.0k", "2.00×", "412 MB"),
        ("linen jit · fused", "16", "200k", "12.5k", "2.00×", "412 MB"),
    )


def raced():
    """One torch agent, two of them on the host, and 1 and 16 agents in one program."""
    records = []
    for task, speed in (("gymnax", 1.0), ("gymnasium", 2.0)):
        group = f"ppo · {task}/CartPole-v1 · train · num_envs 4"
        speeds = {"torch compile": speed, "torch eager": speed / 2}
        records += synthetic.race(speeds, blocks=4, group=group)
    for agents, speed in ((1, 4.0), (16, 40.0)):
        group = f"ppo · gymnax/CartPole-v1 · population · num_envs 4 · agents {agents}"
        many = synthetic.race({"linen jit": speed, "nnx split": speed}, blocks=4, group=group)
        for record in many:
            record["cell"] = {**record["cell"], **({"agents": agents} if agents > 1 else {})}
        records += many
    return summarize(records)


def test_agents_are_held_against_the_fastest_torch_agent():
    tables = {table.title: table for table in cross_tables.cross_tables(raced())}
    table = tables["agents in the time of one · ppo · CartPole-v1 · num_envs 4"]
    rows = {(row[0], row[1]): row[2:] for row in table.rows}
    assert len(rows) == 4 + 4
    _, trained, takes = rows["torch compile on gymnasium/CartPole-v1", "1"]
    assert (trained, takes) == ("1", "1.00×")
    _, trained, takes = rows["linen jit · fused", "16"]
    assert re.fullmatch(r"(19|20|21)(\.\d)? \[1\d(\.\d)?, 2\d(\.\d)?\]", trained)
    assert re.fullmatch(r"0\.[78]\d\d?×", takes)
    assert "While torch compile on gymnasium/CartPole-v1 trains one agent, " in table.note
    assert "in programs of 16" in table.note


def test_the_answer_is_about_the_agents_and_not_about_torch_alone():
    found = answer.answer(raced(), {"suite": "population", "scale": "quick"})
    assert re.match(
        r"While torch trains one agent, JAX trains [12]\d(\.\d)? \[.*\] of PPO on CartPole-v1\.",
        found.title,
    )
    assert {card.group.cells[0].cell["probe"] for card in found.cards} == {"population"}
