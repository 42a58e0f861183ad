"""Rows of one race that differ in precision: one group, told apart by their labels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench.suite.test_suite import load

from tiebreak.bench.suite import suite
from tiebreak.bench.suite.plan import Cell
from tiebreak.core.errors import UsageError

STORED = Path(__file__).parents[3] / "results"
RACE = """
[[races]]
algorithm = "fasttd3"
size = "reference"
task = "dm_control/cheetah-run"
probes = ["update"]
rows = [
    { framework = "torch", mode = "eager" },
    { framework = "torch", mode = "eager", precision = "bfloat16" },
    { framework = "torch" },
    { framework = "torch", precision = "bfloat16" },
]
"""
MIXED = "[scales.quick]\nblocks = 4\n" + RACE
HEAD = MIXED.partition("rows")[0]
GROUP = "fasttd3 · dm_control/cheetah-run · update · num_envs 1 · reference"
FOUR = {(mode, p) for mode in ("eager", "compile") for p in ("float32", "bfloat16")}


def test_rows_of_two_precisions_are_one_group(tmp_path):
    plan = load(tmp_path, MIXED)
    assert list(plan.groups()) == [
        "fasttd3 · dm_control/cheetah-run · update · num_envs 1 · reference"
    ]
    assert {(c.label, c.mode, c.precision) for c in plan.cells} == {
        ("torch eager, float32", "eager", "float32"),
        ("torch eager, bfloat16", "eager", "bfloat16"),
        ("torch compile, float32", "compile", "float32"),
        ("torch compile, bfloat16", "compile", "bfloat16"),
    }
    (runs,) = plan.block(0)
    assert len(runs) == 4  # a process each, interleaved


def test_a_label_of_ones_own_has_its_precision_too(tmp_path):
    text = MIXED.replace('"bfloat16" }', '"bfloat16", label = "AMP" }', 1)
    assert {"AMP, bfloat16", "torch eager, float32"} <= {
        c.label for c in load(tmp_path, text).cells
    }


def test_rows_of_one_precision_are_a_race_of_that_precision(tmp_path):
    of_each = HEAD + 'rows = [{ framework = "torch", precision = "bfloat16" }]\n'
    of_race = HEAD + 'rows = [{ framework = "torch" }]\nprecision = "bfloat16"\n'
    (ours,), (theirs,) = (load(tmp_path, text).cells for text in (of_each, of_race))
    assert ours == theirs
    assert (ours.label, ours.group.split(" · ")[-2]) == ("torch compile", "bfloat16")


def test_a_race_whose_rows_differ_is_not_the_group_of_one_whose_rows_do_not(tmp_path):
    alike = RACE.partition("rows")[0] + 'rows = [{ framework = "torch" }]\n'
    with pytest.raises(UsageError, match=r"an earlier race is .* too, with other settings"):
        load(tmp_path, MIXED + alike)
    assert len(load(tmp_path, MIXED + alike + 'name = "float32"\n').groups()) == 2


def test_all_probes_of_such_a_race_are_interleaved_together(tmp_path):
    text = MIXED.replace("blocks = 4", "blocks = 4\nshare_process = true")
    text = text.replace('["update"]', '["env", "update", "iteration"]')
    plan = load(tmp_path, text)
    (runs,) = plan.block(0)
    assert sorted(len(run.cells) for run in runs) == [1, 2, 2, 2, 2]
    assert len(plan.groups()) == 3


@pytest.mark.skipif(not STORED.is_dir(), reason="a package without results/")
def test_ids_and_groups_of_published_cells_are_what_they_were():
    checked = 0
    for path in STORED.glob("*/*/suite.json"):
        stored = json.loads(path.read_text(encoding="utf-8"))
        groups = {i: group for group, ids in stored.get("groups", {}).items() for i in ids}
        for fields in filter(lambda cell: "id" in cell, stored["cells"]):
            cell = Cell.from_json(fields)
            assert (cell.id, cell.group) == (fields["id"], groups[fields["id"]])
            checked += 1
    assert checked > 300


@pytest.mark.parametrize(
    ("scale", "devices"), [("smoke", {"cpu"}), ("quick", {"cpu", "gpu"}), ("full", {"cpu", "gpu"})]
)
def test_the_suite_fasttd3_races_precision_against_compiling(scale, devices):
    found = [cell for cell in suite.load("fasttd3", scale, 0).cells if cell.precision_varies]
    assert {cell.device for cell in found} == devices
    for device in devices:
        cells = [c for c in found if (c.device, c.framework) == (device, "torch")]
        assert {(c.mode, c.precision) for c in cells} == FOUR
