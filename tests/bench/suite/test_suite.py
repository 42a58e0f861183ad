"""Suites become cells, groups and orders of visits; whatever is wrong in them is said."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hygiene.test_documents import blocks

from tiebreak import registry
from tiebreak.bench.hosts import hosts_file
from tiebreak.bench.suite import suite
from tiebreak.bench.suite.plan import Cell
from tiebreak.core.errors import UsageError

MINIMAL = """
[scales.quick]
blocks = 4
[[races]]
task = "gymnasium/CartPole-v1"
probes = ["update", "train"]
rows = [{ framework = "torch" }, { framework = "linen" }, { framework = "nnx" }]
"""


def load(tmp_path, text, scale=None, seed=0):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return suite.load(str(path), scale, seed)


@pytest.mark.parametrize(
    ("name", "scale"), [(name, scale) for name in suite.names() for scale in suite.scales(name)]
)
def test_built_in_suites_load_at_every_scale(name, scale):
    plan = suite.load(name, scale, 0)
    assert not (plan.settings.share_process and scale == "full")


def test_built_in_suites_have_the_three_usual_scales_and_gymnax_ppo_a_survey():
    for name in suite.names():
        assert {"smoke", "quick", "full"} <= set(suite.scales(name))
    cells = suite.load("gymnax-ppo", "survey", 0).cells
    assert len({cell.task for cell in cells}) == 12
    assert {(cell.probe, cell.size) for cell in cells} == {("train", "s")}


def test_frameworks_races_every_row_of_the_registry():
    groups = {}
    for cell in suite.load("frameworks", "quick", 0).cells:
        groups.setdefault((cell.algorithm, cell.probe, cell.race), []).append(cell)
    for cells in groups.values():
        assert {cell.framework for cell in cells} == set(registry.FRAMEWORKS)
    states = {(c.framework, c.mode) for c in groups["sac", "update", "one update in a call"]}
    compiled = {
        (name, mode)
        for name, row in registry.FRAMEWORKS.items()
        for mode in row.modes
        if row.runtime == "jax" and mode != "eager"
    }
    assert {pair for pair in states if registry.framework(pair[0]).runtime == "jax"} == compiled


def test_quick_races_all_five_on_both_tasks():
    groups = {}
    for cell in suite.load("quick", "quick", 0).cells:
        groups.setdefault((cell.task, cell.probe), {})[cell.framework] = cell
    five = {"torch", "tensorflow", "linen", "nnx", "equinox"}
    for task in ("gymnasium/HalfCheetah-v4", "gymnax/CartPole-v1"):
        assert set(groups[task, "train"]) == set(groups[task, "update"]) == five
    cartpole = groups["gymnax/CartPole-v1", "train"]
    assert {name for name, cell in cartpole.items() if "bridge" in cell.label} == {
        "torch", "tensorflow",
    }  # fmt: skip
    assert {name for name, cell in cartpole.items() if cell.loop == "fused"} == {
        "linen", "nnx", "equinox",
    }  # fmt: skip
    assert set(groups["gymnasium/HalfCheetah-v4", "env"]) == {"numpy"}


def test_cells_of_a_group_differ_in_framework_mode_and_loop_only():
    plan = suite.load("quick", "full", 0)
    cells = {cell.id: cell for cell in plan.cells}
    assert sum(map(len, plan.groups().values())) == len(cells)
    for ids in plan.groups().values():
        rest = {
            str({**vars(cells[i]), "framework": 0, "mode": 0, "loop": 0, "label": 0}) for i in ids
        }
        assert len(rest) == 1


def order(plan, block):
    return [[cell.id for visit in visits for cell in visit.cells] for visits in plan.block(block)]


@pytest.mark.parametrize("name", ["mujoco-throughput", "quick"])
def test_each_odd_block_mirrors_the_one_before(name):
    plan = suite.load(name, "full", 7)
    for block in (0, 2, 4):
        assert order(plan, block + 1) == [ids[::-1] for ids in order(plan, block)]
    assert order(plan, 0) != order(plan, 2)


def test_a_breakdown_is_four_probes(tmp_path):
    plan = load(tmp_path, MINIMAL.replace('"update", "train"', '"update", "breakdown"'))
    probes = {cell.probe for cell in plan.cells}
    assert probes == {"iteration", "forward", "interact", "update"}
    assert len(plan.cells) == 4 * 3


def test_rows_may_differ_in_a_setting_that_their_label_says(tmp_path):
    rows = """rows = [
        { framework = "linen", config = { gamma = 0.9 } },
        { framework = "linen", config = { gamma = 0.8 } },
        { framework = "torch" },
    ]"""
    text = MINIMAL.partition("rows")[0] + rows + "\nconfig = { gamma = 0.7, gae_lambda = 0.5 }"
    plan = load(tmp_path, text)
    assert len(plan.groups()) == 2
    assert {c.label: (c.config["gamma"], c.config["gae_lambda"]) for c in plan.cells} == {
        "linen jit, gamma 0.9": (0.9, 0.5), "linen jit, gamma 0.8": (0.8, 0.5),
        "torch compile": (0.7, 0.5),
    }  # fmt: skip


def test_races_that_differ_in_config_have_names(tmp_path):
    second = "\n[[races]]\nconfig = { gamma = 0.9 }\n" + RACE
    with pytest.raises(UsageError, match="give a race a name"):
        load(tmp_path, MINIMAL + second)
    plan = load(tmp_path, MINIMAL + second + 'name = "short-sighted"\n')
    assert len(plan.cells) == 12
    assert [group.split(" · ")[4:] for group in plan.groups()] == [
        [], [], ["short-sighted"], ["short-sighted"],
    ]  # fmt: skip


def test_a_cell_without_a_race_keeps_the_id_that_it_had():
    cell = Cell("ppo", "torch", "eager", "gymnasium/CartPole-v1", "host", "train")
    assert "race" not in cell.to_json()
    assert cell.id == "253dbd254da35eec"
    assert replace(cell, race="deep").id != cell.id


def test_the_order_comes_from_the_seed(tmp_path):
    orders = [str(order(load(tmp_path, MINIMAL, seed=s), 0)) for s in (1, 1, 2, 3, 4)]
    assert orders[0] == orders[1]
    assert len(set(orders)) > 2


def test_every_row_takes_every_position(tmp_path):
    firsts = set()
    for seed in range(40):
        firsts |= {ids[0] for ids in order(load(tmp_path, MINIMAL, seed=seed), 0)}
    assert len(firsts) == 6


def test_the_order_of_probes_is_drawn_too():
    orders = set()
    for seed in range(20):
        (visits, *_) = suite.load("quick", "smoke", seed).block(0)
        orders |= {tuple(c.probe for c in v.cells) for v in visits if len(v.cells) == 4}
    assert len(orders) > 12


def test_probes_that_come_first_do_and_rows_are_mirrored():
    plan = suite.load("quick", "quick", 7)
    for block in range(4):
        for visits in plan.block(block):
            assert all(visit.probes[0] == "train" for visit in visits)
            assert all("train" not in [c.probe for c in visit.cells[1:]] for visit in visits)
    rows = [[visit.cells[0].row for visit in visits] for visits in plan.block(0)]
    assert [[v.cells[0].row for v in part] for part in plan.block(1)] == [r[::-1] for r in rows]


def test_a_visit_holds_one_cell_or_a_row():
    for scale, probes in (("full", 1), ("quick", 4)):
        (cheetah, *_) = suite.load("quick", scale, 0).block(0)
        assert max(len(visit.cells) for visits in [cheetah] for visit in visits) == probes


RACE = MINIMAL.partition("[[races]]\n")[2]


def test_a_wrong_scale_is_refused_whichever_is_run(tmp_path):
    wrong = "[scales.full]\nblocks = 0\n" + MINIMAL
    with pytest.raises(UsageError, match=r"mine.toml:2: blocks takes"):
        load(tmp_path, wrong, "quick")


def test_a_list_makes_a_race_for_each_combination(tmp_path):
    text = MINIMAL.replace(
        '"gymnasium/CartPole-v1"', '["gymnasium/CartPole-v1", "gymnax/CartPole-v1"]'
    )
    text = 'cache = ["cold", "warm"]\n' + text + 'num_envs = [16, 64]\nsize = "m"\n'
    plan = load(tmp_path, text)
    assert len(plan.cells) == 2 * 2 * 2 * 2 * 3
    assert len(plan.groups()) == 2 * 2 * 2 * 2
    assert {cell.size for cell in plan.cells} == {"m"}
    assert {(c.task, c.num_envs, c.cache) for c in plan.cells} == {
        (task, n, cache)
        for task in ("gymnasium/CartPole-v1", "gymnax/CartPole-v1")
        for n in (16, 64)
        for cache in ("cold", "warm")
    }
    loops = {(c.framework, c.task.partition("/")[0]): c.loop for c in plan.cells}
    assert loops["nnx", "gymnax"] == "fused"
    assert loops["torch", "gymnax"] == loops["nnx", "gymnasium"] == "host"


def test_a_race_has_the_suites_settings_unless_it_sets_its_own(tmp_path):
    second = "[[races]]\n" + RACE + 'precision = "tf32"\n'
    plan = load(tmp_path, 'precision = "float64"\n' + MINIMAL + second)
    assert {cell.precision for cell in plan.cells} == {"float64", "tf32"}


def test_a_setting_may_fit_one_kind_of_actions_only(tmp_path):
    """Which kind a task has is known in the worker: 256 minibatches divide 2048 steps, not 128."""
    load(tmp_path, MINIMAL + "config = { num_minibatches = 256 }")


def test_stages_end_with_the_last_of_them(tmp_path):
    settings = load(tmp_path, MINIMAL.replace("blocks = 4", "stages = [4, 8]")).settings
    assert (settings.stages, settings.blocks) == ((4, 8), 8)
    assert load(tmp_path, MINIMAL).settings.stages == ()


def test_the_example_is_a_suite_and_no_built_in_one():
    for scale in ("quick", "full"):
        plan = suite.load(str(suite.EXAMPLE_FILE), scale, 0)
        assert {cell.cache for cell in plan.cells} == {"cold", "warm"}
    assert "example" not in suite.names()
    first = suite.example().partition("\n")[0]
    assert first == f"#:schema {suite.SCHEMA_FILE.as_uri()}"
    assert suite.SCHEMA_FILE.is_file()


def test_the_race_in_the_documents_loads(tmp_path):
    race, versions, mine, precisions, threads, simulators, many, on_hosts = blocks(
        "toml", "docs/benchmarks.md"
    )
    (tmp_path / "hosts.toml").write_text(on_hosts)
    assert [host.name for host in hosts_file.read(tmp_path / "hosts.toml")][-1] == "node"
    plan = load(tmp_path, MINIMAL.partition("[[races]]")[0] + race)
    assert len(plan.groups()) == 3 * 2 * 2 * 2
    plan = load(tmp_path, MINIMAL.partition("[[races]]")[0] + versions)
    assert {cell.label for cell in plan.cells} == {"torch compile", "torch compile @ torch-2.12"}
    plan = load(tmp_path, MINIMAL.partition("[[races]]")[0] + mine)
    assert [cell.label for cell in plan.cells] == ["torch compile", "mine (not proved)"]
    plan = load(tmp_path, MINIMAL.partition("[[races]]")[0] + precisions)
    assert (len(plan.cells), len(plan.groups())) == (4, 1)
    plan = load(tmp_path, MINIMAL.partition("[[races]]")[0] + threads)
    assert [cell.threads for cell in plan.cells] == [1, 2, 1, 2]
    plan = load(tmp_path, MINIMAL.partition("[[races]]")[0] + simulators)
    assert [bool(cell.ceiling_of) for cell in plan.cells] == [False, False, True]
    plan = load(tmp_path, MINIMAL.partition("[[races]]")[0] + many)
    assert [cell.probe for cell in plan.cells] == [*["population"] * 3, "train", "train"]


def test_every_built_in_suite_says_what_it_is():
    assert all(suite.descriptions().values())


def test_unknown_suites_and_scales_are_refused(tmp_path):
    with pytest.raises(UsageError, match="unknown suite 'quik'; did you mean 'quick'"):
        suite.load("quik", None, 0)
    with pytest.raises(UsageError, match="unknown scale 'ful'; did you mean 'full'"):
        suite.load("quick", "ful", 0)
    with pytest.raises(UsageError, match="has no scale 'full'"):
        load(tmp_path, MINIMAL, "full")
    with pytest.raises(UsageError, match="cannot read suite"):
        suite.load(str(tmp_path / "none.toml"), None, 0)
