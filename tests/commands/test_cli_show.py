"""`tiebreak show`: the same answer as the page's, number for number."""

from __future__ import annotations

import csv
import html
import json
import re

import pytest
from stats import synthetic

from tiebreak.cli import main
from tiebreak.report.formatting import about_time
from tiebreak.report.html import write_report


@pytest.fixture
def folder(tmp_path):
    return synthetic.store(tmp_path / "quick-run", synthetic.typical())


def shown(capsys, *words):
    assert main(["show", *map(str, words)]) == 0
    return capsys.readouterr().out


def text_of(page: str) -> str:
    """The page's text, its tags left out and its spaces made one."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", "", page)))


def test_it_equals_the_page_number_for_number(folder, tmp_path, capsys):
    answer = json.loads(shown(capsys, folder, "--json"))["answer"]
    page = text_of(write_report([folder], tmp_path / "page.html").read_text())
    terminal = re.sub(r"\s+", " ", shown(capsys, folder))
    markdown = shown(capsys, folder, "--markdown").replace("\\", "")
    assert len(answer["cards"]) == 2
    for card in answer["cards"]:
        for where in (page, terminal, markdown):
            assert card["sentence"] in where
        for time in card["seconds_per_million"]:
            total = about_time(time["start_s"] + time["steady_s"])
            assert all(total in where for where in (page, terminal, markdown)), total
    for where in (page, terminal, markdown):
        assert answer["title"] in where
        assert answer["limits"] in where


def test_tables_are_there_on_demand(folder, capsys):
    assert "bootstrap" not in shown(capsys, folder)
    assert "FASTER" not in shown(capsys, folder)
    assert "FASTER" in shown(capsys, folder, "--tables")


def test_tables_are_written_as_csv(folder, tmp_path, capsys):
    shown(capsys, folder, "--csv", tmp_path / "new" / "tables")
    rows = list(csv.DictReader((tmp_path / "new" / "tables" / "times.csv").open()))
    assert {row["cell"] for row in rows} >= {"compiled torch", "NNX"}
    assert all(float(row["seconds_per_million"]) > 0 for row in rows)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--json", "--markdown"], "choose one of them"),
        (["--reference", "nobody"], "unknown reference 'nobody'"),
        (["--csv", "/proc/nothing/here"], "cannot write into '/proc/nothing/here'"),
    ],
)
def test_wrong_use_is_one_line(folder, capsys, words, expected):
    assert main(["show", str(folder), *words]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


def test_a_folder_without_results_is_refused(tmp_path, capsys):
    assert main(["show", str(tmp_path)]) == 2
    assert "is not a results folder" in capsys.readouterr().err
