"""A cell of another engine is a line beside a race, said to be not comparable, and in no ratio."""

from __future__ import annotations

import csv
import io

import pytest
from rich.console import Console
from stats import synthetic

from tiebreak.report import answer, assets, bars, heat, terminal
from tiebreak.report.html import write_page
from tiebreak.report.page import arrange
from tiebreak.report.page_data import read_folders
from tiebreak.stats.ratios import summarize

HOST = "ppo · gymnasium/HalfCheetah-v4 · train · num_envs 64"
BRAX = "ppo · brax/halfcheetah · train · num_envs 64 · ceiling: {}"
SUITE = {"suite": "mujoco-throughput", "scale": "quick"}
NAME = "Linen on brax/halfcheetah"


def raced(speed=20.0, labels=("linen jit",)):
    """Three frameworks with MuJoCo, and brax so many times as fast as torch."""
    speeds = {"torch compile": 1.0, "linen jit": 1.2, "tensorflow xla": 0.5}
    records = [synthetic.machine(), *synthetic.race(speeds, blocks=3, group=HOST)]
    for label in labels:
        group = BRAX.format(label)
        records += synthetic.race({label: speed}, blocks=3, seed=9, group=group)
    for record in records:
        if record.get("group", "").startswith("ppo · brax"):
            record["cell"] = {**record["cell"], "ceiling_of": [HOST]}
    return records


def only(records):
    (card,) = answer.answer(summarize(records), SUITE).cards
    return card


def folder(tmp_path, records):
    return read_folders([synthetic.store(tmp_path / "folder", records)])


def test_nothing_that_is_said_of_the_race_changes():
    with_it = answer.answer(summarize(raced(labels=("linen jit", "equinox flat"))), SUITE)
    without = answer.answer(summarize(raced(labels=())), SUITE)
    assert [card._replace(ceilings=()) for card in with_it.cards] == list(without.cards)
    assert with_it._replace(cards=()) == without._replace(cards=())
    assert {time.name for time in with_it.cards[0].ceilings} == {
        "Linen on brax/halfcheetah", "Equinox on brax/halfcheetah",
    }  # fmt: skip


def test_it_is_in_no_ratio():
    groups = summarize(raced(labels=("linen jit", "equinox flat")))
    theirs = [group for group in groups if group.ceiling_of]
    assert len(theirs) == 2
    assert all(cell.comparison is None for group in theirs for cell in group.cells)
    tables = heat.heat_tables(groups)
    assert [row.group for t in tables for s in t.sections for row in s.rows] == [HOST]
    assert answer.sentence(theirs[0]) == f"{NAME}, another simulator: not comparable."


def test_the_line_stands_where_a_bar_of_its_time_would_end():
    card = only(raced(speed=2.0))
    chart = bars.time_chart("HalfCheetah-v4", card)
    (line,) = chart.ceilings
    longest = max(card.times, key=lambda time: time.total_s)
    lengths = {bar.name: bar.length for bar in chart.bars}
    assert line.name == NAME
    assert line.share == pytest.approx(
        lengths[longest.name] * card.ceilings[0].total_s / longest.total_s
    )
    assert chart.caption.endswith("upright line: another simulator, not comparable")
    assert {bar.name for bar in chart.bars} == {"compiled torch", "Linen", "TensorFlow"}


def test_one_far_slower_than_all_stands_at_the_end():
    chart = bars.time_chart("HalfCheetah-v4", only(raced(speed=0.01)))
    (line,) = chart.ceilings
    assert (line.share, line.text) == (1.0, "17 min, beyond")
    assert max(bar.length for bar in chart.bars) > 0.5


def test_a_barred_one_is_not_drawn():
    records = raced()
    for record in records:
        if record.get("group", "").startswith("ppo · brax"):
            record["flags"] = {"recompiled": 2}
    assert only(records).ceilings == ()
    assert "upright line" not in bars.time_chart("HalfCheetah-v4", only(records)).caption


def test_the_page_the_terminal_and_files_say_that_it_is_another_simulator(tmp_path):
    folders = folder(tmp_path, raced())
    page = arrange(folders)
    html = write_page(page, tmp_path / "page.html").read_text()
    assert f'<th scope="row">{NAME}</th>' in html
    assert html.count("linear-gradient") == 4  # through three bars, to its own label
    assert "another simulator: not comparable" in html

    found = folders[0].answer
    file = io.StringIO()
    terminal.print_answer(found, Console(file=file, width=100))
    text = file.getvalue()
    assert f"┊ {NAME}: " in text
    assert "(another simulator: not comparable)" in text
    assert f"- {NAME}: " in terminal.to_markdown(found)

    (card,) = answer.to_json(found)["cards"]
    assert [one["name"] for one in card["not_comparable"]] == [NAME]
    assert NAME not in {one["name"] for one in card["seconds_per_million"]}

    files = {path.name: path for path in assets.write_tables(page, tmp_path / "tables")}
    (row,) = csv.DictReader(files["ceilings.csv"].open())
    assert (row["cell"], row["note"]) == (NAME, "another simulator: not comparable")
    assert NAME not in files["times.csv"].read_text()
    (chart,) = [chart for _, chart in page.folders[0].charts]
    assert "stroke-dasharray" in assets.to_svg(chart)
    assert NAME in assets.to_svg(chart)


def test_a_page_without_ceilings_has_no_lines(tmp_path):
    page = arrange(folder(tmp_path, raced(labels=())))
    html = write_page(page, tmp_path / "page.html").read_text()
    assert "linear-gradient" not in html
    assert not [p for p in assets.write_tables(page, tmp_path / "t") if p.name == "ceilings.csv"]
