"""Tables of others: read with their lines, shown beside ours, never part of what is measured."""

from __future__ import annotations

import json

import pytest
from bench.suite.test_suite import MINIMAL, load

from tiebreak.algorithms.mpo.config import jax_rl
from tiebreak.bench.suite import published, suite
from tiebreak.core.config import override
from tiebreak.core.errors import UsageError
from tiebreak.core.types import EnvSpec

TABLE = """
[[published]]
source = "somebody"
machine = "another machine"
unit = "ms per call"
values = [
    { what = "A", value = 0.5, plus_minus = 0.1, framework = ["linen", "nnx"], probe = "update" },
]
"""
BOX = EnvSpec.make(observation_shape=(5,), action_low=(-1.0,), action_high=(1.0,))


def test_a_table_is_read_and_says_which_cells_it_belongs_to(tmp_path):
    (table,) = load(tmp_path, MINIMAL + TABLE).published
    assert json.loads(json.dumps(table)) == table
    assert (table["source"], table["machine"], table["unit"]) == (
        "somebody", "another machine", "ms per call",
    )  # fmt: skip
    (value,) = table["values"]
    assert (value["what"], value["value"], value["plus_minus"]) == ("A", 0.5, 0.1)
    cells = load(tmp_path, MINIMAL + TABLE).cells
    found = [c for c in cells if published.belongs(c.to_json(), value["where"])]
    assert [(c.framework, c.probe) for c in found] == [("linen", "update"), ("nnx", "update")]


def test_a_table_changes_nothing_of_what_is_measured(tmp_path):
    with_it, without = (load(tmp_path, text) for text in (MINIMAL + TABLE, MINIMAL))
    assert with_it.cells == without.cells
    assert without.published == ()


def test_a_source_without_numbers_is_a_table_too(tmp_path):
    nothing = TABLE.partition("values")[0] + "values = []\n"
    (table,) = load(tmp_path, MINIMAL + nothing).published
    assert table["values"] == []


def test_a_value_may_belong_to_a_race_of_another_scale(tmp_path):
    rest = '\n[[races]]\nscales = ["full"]\nname = "deep"\n' + MINIMAL.partition("[[races]]\n")[2]
    text = MINIMAL + rest + TABLE.replace('probe = "update"', 'race = "deep"')
    assert {cell.race for cell in load(tmp_path, text).cells} == {""}
    deep = "[scales.full]\nblocks = 2\n" + text
    assert {cell.race for cell in load(tmp_path, deep, "full").cells} == {"", "deep"}


@pytest.mark.parametrize("name", ["update-steps", "dqn-breakdown", "gymnax-ppo", "fasttd3"])
def test_every_published_number_of_ours_has_a_cell_at_some_scale(name):
    cells = [cell.to_json() for s in suite.scales(name) for cell in suite.load(name, s, 0).cells]
    tables = suite.load(name, "smoke", 0).published
    values = [value for table in tables for value in table["values"]]
    assert values
    assert all(any(published.belongs(c, v["where"]) for c in cells) for v in values)


def test_update_steps_measures_jax_rls_mpo():
    cells = [c for c in suite.load("update-steps", "quick", 0).cells if c.algorithm == "mpo"]
    same = {"batch_size": 256, "num_updates": 10, "replay_size": 10_000}
    for cell in cells:
        wanted = override(jax_rl(BOX), {**same, "dual": cell.config["dual"]})
        assert override(type(wanted)(), cell.config) == wanted
    duals = {c.label: c.config["dual"] for c in cells if c.race == "dual methods"}
    assert duals["linen jit, newton"] == "newton"
    assert len(duals) == 6
    assert {c.config["dual"] for c in cells if c.race != "dual methods"} == {"slsqp"}


WRONG = {
    "unknown key of a published table 'sauce'; did you mean 'source'": ("source", "sauce", 10),
    "a published table needs machine": ('"another machine"', '""', 9),
    "unknown unit 'ms'": ("ms per call", "ms", 12),
    "unknown key of a published value 'frame'": ("framework", "frame", 14),
    "value takes a number above 0, got 0": ("value = 0.5", "value = 0", 14),
    "value takes a number above 0, got None": ("value = 0.5, ", "", 14),
    "plus_minus takes a number above 0": ("0.1", "true", 14),
    "a published value needs what": ('"A"', '""', 14),
    "over, a framework, goes with unit": ('"A"', '"A", over = "torch"', 14),
    "over, a framework, goes with": ("ms per call", "times as fast", 14),
    "the suite has no cell with framework equinox": ('["linen", "nnx"]', '"equinox"', 14),
}
"""Message -> what in the table is replaced by what, and the line that is named."""


@pytest.mark.parametrize("message", WRONG)
def test_what_is_wrong_in_a_table_is_said_with_its_line(tmp_path, message):
    old, new, line = WRONG[message]
    with pytest.raises(UsageError) as caught:
        load(tmp_path, MINIMAL + TABLE.replace(old, new))
    said = str(caught.value)
    assert message in said
    assert said.startswith(f"{tmp_path / 'mine.toml'}:{line}: "), said
