"""The table of what is won where: reference first, unsure values without color."""

from __future__ import annotations

import pytest
from report.test_html import page
from stats import synthetic

from tiebreak.report import formatting, heat
from tiebreak.stats.ratios import summarize

HOST = "ppo · gymnasium/HalfCheetah-v4 · {} · num_envs 4"
SPEEDS = {"torch compile": 1.0, "linen jit": 2.0, "nnx split": 0.5}


def measured(probe: str, speeds=SPEEDS, task: str = HOST, **changes) -> list[dict]:
    return synthetic.race(speeds, 4, group=task.format(probe), **changes)


def cells(row: heat.HeatRow, table: heat.HeatTable) -> dict[str, heat.HeatCell]:
    return dict(zip(table.columns, row.cells, strict=True))


def test_rows_are_probes_and_columns_frameworks_the_reference_first():
    records = measured("update") + measured("forward") + measured("train")
    (table,) = heat.heat_tables(summarize(records))
    assert table.reference == "torch compile"
    assert table.columns == ("torch compile", "linen jit", "nnx split")
    (section,) = table.sections
    assert section.head == "HalfCheetah-v4"
    assert [row.name for row in section.rows] == [
        "training, all in all", "choosing actions", "learning",
    ]  # fmt: skip
    first = cells(section.rows[0], table)
    assert first["torch compile"].text == "1×"
    assert first["linen jit"].text == "2.0×"
    assert first["linen jit"].css == "p3"
    assert first["nnx split"].css == "m3"


def test_a_loop_that_differs_by_task_shares_a_column():
    bridge = "ppo · gymnax/CartPole-v1 · {} · num_envs 4"
    records = measured("train") + measured("train", task=bridge)
    (table,) = heat.heat_tables(summarize(records))
    assert table.columns == ("torch compile", "linen jit", "nnx split")
    rows = [row for section in table.sections for row in section.rows]
    assert [row.name for row in rows] == ["HalfCheetah-v4", "CartPole-v1"]
    assert all(section.head == "" for section in table.sections)


def test_cells_that_share_a_label_have_a_column_each():
    records = measured("train")
    for record in records:
        if record["cell"]["label"] == "linen jit":
            record["cell"] |= {"label": "torch compile"}
    (table,) = heat.heat_tables(summarize(records))
    assert len(table.columns) == 3
    assert sum(name.startswith("torch compile (") for name in table.columns) == 2


def test_what_is_not_told_apart_has_a_mark_and_no_color():
    records = synthetic.race({"torch compile": 1.0, "nnx split": 1.0}, blocks=4)
    (table,) = heat.heat_tables(summarize(records))
    cell = cells(table.sections[0].rows[0], table)["nnx split"]
    assert cell.unsure
    assert cell.css == ""
    (single,) = heat.heat_tables(summarize(synthetic.race(SPEEDS, blocks=1)))
    cell = cells(single.sections[0].rows[0], single)["linen jit"]
    assert cell.unsure
    assert cell.about == "one block, no interval"


def test_absent_and_barred_cells_are_marked(tmp_path):
    records = measured("train") + measured("update", {"torch compile": 1.0, "nnx split": 2.0})
    for record in records:
        if record["cell"]["label"] == "nnx split":
            record["flags"] = {"recompiled": 2}
    (table,) = heat.heat_tables(summarize(records))
    _, learning = table.sections[0].rows
    found = cells(learning, table)
    assert (found["linen jit"].text, found["linen jit"].css) == ("–", "none")
    assert found["nnx split"].barred == "recompiled"
    assert found["nnx split"].css == ""
    assert "<sup>⚑</sup>" in page(tmp_path, records).source


def test_groups_without_a_common_column_are_tables_of_their_own():
    other = {"torch compile newton": 1.0, "torch compile slsqp": 0.9}
    records = measured("train") + measured("update", other)
    first, second = heat.heat_tables(summarize(records))
    assert first.columns == ("torch compile", "linen jit", "nnx split")
    assert second.columns == ("torch compile newton", "torch compile slsqp")
    assert second.sections[0].rows[0].about.startswith("learning: gradient steps")


def test_a_group_of_one_cell_is_left_out():
    assert heat.heat_tables(summarize(measured("env", {"environment alone": 1.0}))) == []
    assert heat.heat_tables(summarize([synthetic.failed("torch compile", 0)])) == []


def test_an_engine_is_named_only_where_it_tells_tasks_apart():
    tasks = ("gymnasium/CartPole-v1", "gymnax/CartPole-v1", "gymnasium/HalfCheetah-v4")
    records = [
        r for task in tasks for r in measured("train", task=f"ppo · {task} · {{}} · num_envs 4")
    ]
    assert heat.tasks(summarize(records)) == [
        "gymnasium/CartPole-v1", "gymnax/CartPole-v1", "HalfCheetah-v4",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ratio", "shade"),
    [(1.0, 0), (1.04, 0), (1.1, 1), (2.0, 3), (11.0, 5), (0.9, -1), (0.5, -3), (0.05, -5)],
)
def test_shades_are_symmetric_steps(ratio, shade):
    assert heat.shade(ratio) == shade
    assert heat.shade(1 / ratio) == -shade


def test_factors_have_two_digits():
    values = (0.016, 0.26, 0.96, 0.999, 1.0, 1.06, 1.94, 9.94, 11.2, 253.0)
    assert [formatting.factor(value) for value in values] == [
        "0.016×", "0.26×", "0.96×", "1.00×", "1.00×", "1.06×", "1.9×", "9.9×", "11×", "253×",
    ]  # fmt: skip


def test_several_tasks_have_a_geometric_mean():
    records = []
    for task, speed in (("A", 2.0), ("B", 4.0), ("C", 8.0)):
        speeds = {"torch compile": 1.0, "linen jit": speed}
        group = f"ppo · gymnax/{task} · train · num_envs 4"
        records += synthetic.race(speeds, 4, noise=0.0005, group=group)
    (table,) = heat.heat_tables(summarize(records))
    (row,) = table.sections[-1].rows
    assert table.sections[-1].head == "geometric mean over tasks"
    assert (row.name, row.about) == ("training, all in all", "over 3 groups")
    assert [cell.text for cell in row.cells] == ["1×", "4.0×"]
    fewer = heat.heat_tables(summarize(r for r in records if "gymnax/C" not in r["group"]))
    assert fewer[0].sections[-1].head != "geometric mean over tasks"
