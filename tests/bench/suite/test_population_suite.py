"""The probe `population`: its cells, its counted work, and its sheet."""

from __future__ import annotations

import pytest
from bench.probes.test_agent_probes import ITERATION, measured, subject
from bench.suite.test_suite import load
from stats import synthetic

from tiebreak.bench.suite import suite
from tiebreak.core.errors import UsageError
from tiebreak.report import cross_tables
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


def test_the_built_in_suite_goes_from_1_to_256():
    cells = suite.load("population", "quick", 0).cells
    agents = {c.agents for c in cells if (c.algorithm, c.framework) == ("ppo", "nnx")}
    assert agents == {2**i for i in range(9)}


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
