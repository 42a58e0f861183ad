"""Suites become cells, groups and orders of visits; whatever is wrong in them is said."""

from __future__ import annotations

import pytest

from tiebreak.bench import suite
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


@pytest.mark.parametrize("scale", suite.SCALES)
@pytest.mark.parametrize("name", suite.names())
def test_built_in_suites_load_at_every_scale(name, scale):
    plan = suite.load(name, scale, 0)
    assert plan.settings.share_process == (scale != "full")


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


@pytest.mark.parametrize("scale", ["quick", "full"])
def test_each_odd_block_mirrors_the_one_before(scale):
    plan = suite.load("quick", scale, 7)
    for block in (0, 2, 4):
        assert order(plan, block + 1) == [ids[::-1] for ids in order(plan, block)]
    assert order(plan, 0) != order(plan, 2)


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
        (visits, _) = suite.load("quick", "quick", seed).block(0)
        orders |= {tuple(c.probe for c in v.cells) for v in visits if len(v.cells) == 4}
    assert len(orders) > 12


def test_a_visit_holds_one_cell_or_a_row():
    for scale, probes in (("full", 1), ("quick", 4)):
        (cheetah, *_) = suite.load("quick", scale, 0).block(0)
        assert max(len(visit.cells) for visits in [cheetah] for visit in visits) == probes


WRONG = {
    "unknown key in suite 'mine' 'sede'": "sede = 1\n" + MINIMAL,
    "unknown key in a scale 'block'": MINIMAL.replace("blocks", "block"),
    "unknown key in a race 'tasks'": MINIMAL.replace("task =", "tasks ="),
    "unknown key in a row 'fw'": MINIMAL.replace("framework", "fw"),
    "unknown framework 'torhc'; did you mean 'torch'": MINIMAL.replace("torch", "torhc"),
    "unknown probe 'trian'; did you mean 'train'": MINIMAL.replace("train", "trian"),
    "unknown engine 'gymnasim'; did you mean 'gymnasium'": MINIMAL.replace("nasium", "nasim"),
    "has no mode 'jit'": MINIMAL.replace('"torch"', '"torch", mode = "jit"'),
    "loop 'fused' needs": MINIMAL.replace('"torch"', '"torch", loop = "fused"'),
    "unknown size 'xl'": 'size = "xl"\n' + MINIMAL,
    "unknown setting 'gama'; did you mean 'gamma'": MINIMAL + "config = { gama = 0.9 }",
    "num_envs is set by": MINIMAL + "config = { num_envs = 3 }",
    "blocks takes a positive number": MINIMAL.replace("4", "0"),
    "share_process takes true or false": MINIMAL.replace("blocks", "share_process"),
    "names a cell twice": MINIMAL.replace("linen", "nnx"),
    "a race needs rows": MINIMAL.partition("rows")[0],
    "is not TOML": MINIMAL + "]",
    "names no race": MINIMAL.partition("[[races]]")[0],
    "with other settings": MINIMAL + MINIMAL.partition("[[races]]\n")[2].join(
        ["[[races]]\nconfig = { gamma = 0.9 }\n", ""]
    ).replace('"torch"', '"equinox"'),
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG)
def test_what_is_wrong_in_a_suite_is_said(tmp_path, message):
    load(tmp_path, MINIMAL)
    with pytest.raises(UsageError) as caught:
        load(tmp_path, WRONG[message])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_suites_and_scales_are_refused(tmp_path):
    with pytest.raises(UsageError, match="unknown suite 'quik'; did you mean 'quick'"):
        suite.load("quik", None, 0)
    with pytest.raises(UsageError, match="unknown scale 'ful'; did you mean 'full'"):
        suite.load("quick", "ful", 0)
    with pytest.raises(UsageError, match="has no scale 'full'"):
        load(tmp_path, MINIMAL, "full")
    with pytest.raises(UsageError, match="cannot read suite"):
        suite.load(str(tmp_path / "none.toml"), None, 0)
