"""Ceilings: cells of another engine that a race's charts show, and no ratio has."""

from __future__ import annotations

import json

from bench.suite.test_suite import MINIMAL, load

from tiebreak.bench.suite import suite
from tiebreak.bench.suite.plan import Cell

TASKS = '["gymnasium/HalfCheetah-v4", "envpool/HalfCheetah-v4"]'
RACE = MINIMAL.replace('"gymnasium/CartPole-v1"', TASKS)
CEILINGS = """
[[races.ceilings]]
task = "brax/halfcheetah"
framework = "nnx"
probes = ["train"]
num_envs = 512
"""


def ceilings(plan):
    return [cell for cell in plan.cells if cell.ceiling_of]


def test_a_ceiling_is_measured_once_and_drawn_in_every_chart_of_its_race(tmp_path):
    plan = load(tmp_path, RACE + "num_envs = [16, 64]\n" + CEILINGS)
    (cell,) = ceilings(plan)
    assert (cell.task, cell.framework, cell.probe, cell.num_envs, cell.loop) == (
        "brax/halfcheetah", "nnx", "train", 512, "fused",
    )  # fmt: skip
    assert cell.ceiling_of == tuple(
        f"ppo · {engine}/HalfCheetah-v4 · train · num_envs {n}"
        for engine in ("gymnasium", "envpool")
        for n in (16, 64)
    )


def test_a_ceiling_is_a_group_of_its_own(tmp_path):
    text = RACE + CEILINGS + CEILINGS.replace("nnx", "linen")
    groups = load(tmp_path, text).groups()
    theirs = {group: ids for group, ids in groups.items() if "brax" in group}
    assert list(theirs) == [
        "ppo · brax/halfcheetah · train · num_envs 512 · ceiling: nnx split",
        "ppo · brax/halfcheetah · train · num_envs 512 · ceiling: linen jit",
    ]
    assert {len(ids) for ids in theirs.values()} == {1}


def test_rows_are_what_they_are_without_ceilings(tmp_path):
    plan = load(tmp_path, RACE + CEILINGS)
    raced = [cell for cell in plan.cells if not cell.ceiling_of]
    assert raced == list(load(tmp_path, RACE).cells)
    assert plan.cells[-1].ceiling_of  # measured after what it is drawn beside


def test_a_ceiling_has_what_it_does_not_set_from_its_race(tmp_path):
    text = RACE + 'num_envs = 16\nsize = "m"\nconfig = { gamma = 0.9 }\n'
    text += CEILINGS.replace("num_envs = 512\n", "").replace('probes = ["train"]\n', "")
    found = ceilings(load(tmp_path, text))
    assert [cell.probe for cell in found] == ["update", "train"]
    assert {(c.num_envs, c.size, c.config["gamma"]) for c in found} == {(16, "m", 0.9)}


def test_one_process_measures_all_probes_of_a_ceiling_and_nothing_else(tmp_path):
    text = RACE.replace("blocks = 4", "blocks = 4\nshare_process = true")
    text += CEILINGS.replace('probes = ["train"]\n', "")
    interleavings = load(tmp_path, text).block(0)
    assert [len(runs) for runs in interleavings] == [3, 3, 1]
    assert len(interleavings[-1][0].cells) == 2


def test_the_environment_alone_is_a_ceiling_of_the_environment(tmp_path):
    text = RACE.replace('"update", "train"', '"env", "train"')
    text += CEILINGS.replace('"train"', '"env"') + CEILINGS.replace("nnx", "linen").replace(
        '"train"', '"env"'
    )
    (cell,) = ceilings(load(tmp_path, text))
    assert (cell.framework, cell.probe, cell.label) == ("jax", "env", "environment alone")


def test_a_ceiling_is_stored_and_read_again(tmp_path):
    (cell,) = ceilings(load(tmp_path, RACE + CEILINGS))
    stored = json.loads(json.dumps(cell.to_json()))
    assert Cell.from_json(stored) == cell
    assert "ceiling_of" not in Cell.from_json({**stored, "ceiling_of": []}).to_json()


def test_mujoco_throughput_has_brax_as_a_ceiling():
    for scale in ("quick", "full"):
        found = ceilings(suite.load("mujoco-throughput", scale, 0))
        assert {cell.task for cell in found} >= {"brax/halfcheetah"}
        drawn = {group for cell in found for group in cell.ceiling_of}
        assert drawn <= set(suite.load("mujoco-throughput", scale, 0).groups())
