"""Several folders: a column for each machine, machines as colors, nothing pooled."""

from __future__ import annotations

import re

from report.test_html import Page
from stats import synthetic

from tiebreak.report.html import read_page, write_report

TWO = {"torch compile": 1.0, "nnx split": 2.0}
UPDATE = "ppo · gymnax/CartPole-v1 · update · num_envs 4"
ENV = "ppo · gymnax/CartPole-v1 · env · num_envs 4"


def machine(cpu: str, mark: str) -> dict:
    record = synthetic.machine(mark * 16)
    return {**record, "machine": {**record["machine"], "cpu": cpu}}


def raced(folder, cpu: str, mark: str, speed: float, **changes):
    speeds = {**TWO, "nnx split": speed}
    records = synthetic.race(speeds, blocks=4, fingerprint=mark * 16, **changes)
    return synthetic.store(folder, [machine(cpu, mark), *records])


def test_one_chart_and_one_table_hold_all_machines(tmp_path):
    folders = [
        raced(tmp_path / "a", "Laptop", "a", 2.0),
        raced(tmp_path / "b", "Server", "b", 4.0, unit_s=2e-5),
    ]
    across = read_page(folders).across
    assert across
    assert across.headings == ("cell", "Laptop · 2 cores", "Server · 2 cores")
    (section,) = across.sections
    found = {row[0]: row[1:] for row in section.rows}
    assert re.fullmatch(r"1\d s · (1\.9|2\.0)\d× \[.*\]", found["NNX"][0])
    assert re.fullmatch(r"1\d s · (3\.9|4\.0)\d× \[.*\]", found["NNX"][1])
    (chart,) = across.charts
    assert [name for _, name in chart.legend] == ["Laptop · 2 cores", "Server · 2 cores"]
    assert len(chart.bars) == 4

    shown = Page(write_report(folders, tmp_path / "both.html"))
    assert re.search(
        r"A million steps at best. .*CartPole-v1.*: 1\d s on Laptop, 1\d s on Server\.",
        shown.words,
    )
    assert "2 results, never pooled" in shown.words
    assert shown.classes("table").count("bars many") == 1
    assert shown.classes("table").count("bars ") == 0
    assert shown.words.count("Every column was measured by itself") == 1
    ids = shown.attributes("id")
    assert len(ids) == len(set(ids))


def test_machines_of_one_kind_are_told_apart_by_their_folders(tmp_path):
    folders = [raced(tmp_path / name, "Board", "a", 2.0) for name in ("monday", "tuesday")]
    across = read_page(folders).across
    assert across
    assert across.headings == ("cell", "monday", "tuesday")
    twice = [raced(tmp_path / name / "quick", "Board", "a", 2.0) for name in "xy"]
    across = read_page(twice).across
    assert across
    assert across.headings == ("cell", "1: quick", "2: quick")


def test_a_task_of_one_machine_keeps_the_colors_of_frameworks(tmp_path):
    other = "ppo · gymnasium/HalfCheetah-v4 · train · num_envs 4"
    folders = [
        raced(tmp_path / "a", "Laptop", "a", 2.0),
        raced(tmp_path / "b", "Server", "b", 2.0, group=other),
    ]
    across = read_page(folders).across
    assert across
    assert [chart.name for chart in across.charts] == [
        "CartPole-v1 (Laptop · 2 cores)", "HalfCheetah-v4 (Server · 2 cores)",
    ]  # fmt: skip
    assert all(not chart.legend for chart in across.charts)
    assert [row[2] for row in across.sections[0].rows] == ["–", "–"]


def merged(tmp_path, cpus=("Laptop", "Server"), **suite):
    """One folder of two machines, which raced two probes, and one of them a third."""
    records = [machine(cpu, mark) for cpu, mark in zip(cpus, "ab", strict=True)]
    for mark, groups in (("a", (synthetic.TRAIN, UPDATE)), ("b", (synthetic.TRAIN, UPDATE, ENV))):
        more = {"fingerprint": mark * 16, "run_id": f"run-{mark}"}
        for group in groups:
            records += synthetic.race(TWO, blocks=2, group=group, **more)
        records[-1]["flags"] = {"noisy": 0.1}
    for record, mark in zip(records[:2], "ab", strict=True):
        record["run_id"] = f"run-{mark}"
    return synthetic.store(tmp_path / "both", records, **suite)


def test_two_machines_in_one_folder_are_columns_and_colors(tmp_path):
    folder = merged(tmp_path)
    across = read_page([folder]).across
    assert across
    assert across.headings == ("cell", "Laptop · 2 cores", "Server · 2 cores")
    (chart,) = across.charts
    assert chart.legend == (
        ("machine-0", "Laptop · 2 cores"), ("machine-1", "Server · 2 cores"),
    )  # fmt: skip
    found = Page(write_report([folder], tmp_path / "both.html"))
    assert found.source.count('<span class="chip s-machine-0"></span>Laptop · 2 cores</th>') == 2
    assert found.source.count('<span class="chip s-machine-1"></span>Server · 2 cores</th>') == 2
    assert "2 machines, never pooled" in found.words
    times = r"1\d s on Laptop, 1\d s on Server\."
    assert re.search(rf"A million steps at best\. CartPole-v1: {times}", found.words)


def test_the_other_probes_of_machines_stand_side_by_side(tmp_path):
    across = read_page([merged(tmp_path)]).across
    assert across
    update, env = across.parts
    rows = {row[0]: row[1:] for row in update.rows}
    for value in rows["nnx split"]:
        assert re.fullmatch(r"[\d.]+ µs · (1\.9|2\.0)\d× \[.*\]", value)
    assert [row[1] for row in env.rows] == ["–", "–"]


def test_details_of_two_machines_name_the_machine(tmp_path):
    found = Page(write_report([merged(tmp_path)], tmp_path / "both.html"))
    assert "machine aaaaaa" not in found.text
    summaries = re.findall(r"<summary><b>(.*?)</b>", found.source)
    for cpu, flagged in (("Laptop", UPDATE), ("Server", ENV)):
        assert sum(f"{cpu} · 2 cores:" in summary for summary in summaries) >= 2
        assert f"{flagged} · {cpu} · 2 cores" in found.words
        assert f"<b>{cpu} · 2 cores</b>, fingerprint" in found.source


def test_machines_of_one_kind_in_one_folder_have_the_names_of_their_parts(tmp_path):
    names = {"left": "run-a", "right": "run-b"}
    parts = [{"name": name, "run_id": run_id} for name, run_id in names.items()]
    across = read_page([merged(tmp_path, ("Board", "Board"), merged=parts)]).across
    assert across
    assert across.headings == ("cell", "Board · 2 cores · left", "Board · 2 cores · right")


def test_tables_across_groups_are_made_of_one_machine_each(tmp_path):
    records = [machine("Laptop", "a"), machine("Server", "b")]
    for mark in "ab":
        for probe in ("iteration", "forward", "interact", "update"):
            group = f"ppo · gymnax/CartPole-v1 · {probe} · num_envs 4"
            more = {"fingerprint": mark * 16, "run_id": f"run-{mark}"}
            records += synthetic.race(TWO, blocks=2, group=group, **more)
    (view,) = read_page([synthetic.store(tmp_path / "both", records)]).folders
    titles = [table.title for table in view.cross_tables]
    assert [title.rpartition("num_envs 4 · ")[2] for title in titles] == [
        "Laptop · 2 cores", "Server · 2 cores",
    ]  # fmt: skip


def test_a_self_test_beside_a_race_leaves_the_page_that_of_the_race(tmp_path):
    race = raced(tmp_path / "race", "Laptop", "a", 2.0)
    rows = [machine("Laptop", "a"), synthetic.selftest()]
    tested = synthetic.self_test(tmp_path / "tested", rows)
    found = read_page([race, tested])
    assert found.across is None
    assert found.title == read_page([race]).title
