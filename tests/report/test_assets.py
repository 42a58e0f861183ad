"""`tiebreak report --assets`: every chart as SVG and PNG, every table as CSV."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ElementTree

import pytest
from stats import synthetic

from tiebreak import cli
from tiebreak.core.errors import UsageError
from tiebreak.report.assets import write_assets
from tiebreak.report.html import read_page

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def folder(tmp_path):
    return synthetic.store(tmp_path / "run", synthetic.typical())


def rows(file) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(file.read_text())))


def test_the_command_writes_them_and_names_them(folder, tmp_path, capsys):
    out = tmp_path / "figures"
    page = tmp_path / "page.html"
    assert cli.main(["report", str(folder), "-o", str(page), "--assets", str(out)]) == 0
    printed = capsys.readouterr().out.split()
    assert printed == [str(page), *(str(out / name) for name in (
        "time-cartpole-v1.svg", "time-cartpole-v1.png", "time-halfcheetah-v4.svg",
        "time-halfcheetah-v4.png", "times.csv", "speed.csv", "cells.csv",
    ))]  # fmt: skip
    assert all((out / name).stat().st_size for name in printed)


def test_an_svg_stands_by_itself_and_shows_every_cell(folder, tmp_path):
    write_assets(read_page([folder]), tmp_path)
    source = (tmp_path / "time-cartpole-v1.svg").read_text()
    root = ElementTree.fromstring(source)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for rect in root.iter("{http://www.w3.org/2000/svg}rect"):
        x, w = float(rect.attrib.get("x", 0)), float(rect.attrib["width"])
        assert 0 <= x <= x + w <= width
        assert float(rect.attrib.get("y", 0)) < height
    for name in ("compiled torch", "Equinox", "line: 95 % interval"):
        assert name in source
    assert "href" not in source
    assert "<script" not in source


def test_a_png_is_one(folder, tmp_path):
    write_assets(read_page([folder]), tmp_path)
    png = (tmp_path / "time-cartpole-v1.png").read_bytes()
    assert png.startswith(b"\x89PNG\r\n")
    assert int.from_bytes(png[16:20], "big") == 2 * 760


def test_tables_hold_the_numbers_of_the_page(folder, tmp_path):
    page = read_page([folder])
    write_assets(page, tmp_path)
    view = page.folders[0]
    times = rows(tmp_path / "times.csv")
    assert len(times) == sum(len(card.times) for card in view.data.answer.cards)
    first = view.data.answer.cards[0].times[0]
    assert float(times[0]["seconds_per_million"]) == first.total_s
    cells = rows(tmp_path / "cells.csv")
    assert len(cells) == sum(len(group.cells) for group in view.data.groups)
    speeds = {(r["group"], r["column"]): r for r in rows(tmp_path / "speed.csv")}
    group = next(g for g in view.data.groups if g.group == synthetic.TRAIN)
    for cell in group.cells:
        if cell.comparison:
            row = speeds[synthetic.TRAIN, cell.label]
            assert float(row["ratio"]) == cell.comparison.ratio
            assert float(row["high"]) == cell.comparison.high
    assert {r["barred"] for r in cells if r["framework"] == "linen"} == {"", "recompiled"}


def test_machines_side_by_side_are_a_table_and_a_chart(folder, tmp_path):
    other = synthetic.store(tmp_path / "other", synthetic.typical())
    files = write_assets(read_page([folder, other]), tmp_path / "figures")
    names = {file.name for file in files}
    assert {"machines.csv", "time-cartpole-v1.svg", "time-halfcheetah-v4.png"} <= names
    table = rows(tmp_path / "figures" / "machines.csv")
    assert list(table[0]) == ["task", "cell", "run", "other"]
    assert "other" in (tmp_path / "figures" / "time-cartpole-v1.svg").read_text()


def test_names_of_files_are_safe_and_content_is_escaped(tmp_path):
    records = synthetic.race({f"torch {EVIL}": 1.0, "nnx split": 2.0}, blocks=2)
    for record in records:
        task = f"gymnax/../../{EVIL}"
        record["group"] = f"ppo · {task} · train · num_envs 4"
        record["cell"]["task"] = task
    folder = synthetic.store(tmp_path / "run", records)
    files = write_assets(read_page([folder]), tmp_path / "figures")
    assert {file.parent for file in files} == {tmp_path / "figures"}
    assert all(file.name.replace(".", "").replace("-", "").isalnum() for file in files)
    (svg,) = (file for file in files if file.suffix == ".svg")
    assert EVIL not in svg.read_text()


def test_a_folder_that_cannot_be_written_is_one_line(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write into") as caught:
        write_assets(read_page([folder]), tmp_path / "file")
    assert "\n" not in str(caught.value)
