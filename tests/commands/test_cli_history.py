"""`tiebreak history`: folders in the order given, a row for each cell, a line for each change."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from stats import synthetic

from tiebreak import cli
from tiebreak.bench.manager.store import read_records


def version(folder, number, nnx, group=synthetic.TRAIN, blocks=4, cpu="Some CPU", **suite):
    """A results folder of one commit."""
    mark = f"{number}" * 16
    about = synthetic.machine(mark)
    packages = {"jax": "0.10.2" if number < 4 else "0.11.0"}
    about["machine"] = {**about["machine"], "packages": packages, "cpu": cpu}
    speeds = {"torch compile": 1.0, "nnx split": nnx}
    more: dict[str, Any] = {"fingerprint": mark, "run_id": f"run-{number}", "group": group}
    records = [about, *synthetic.race(speeds, blocks=blocks, seed=number, **more)]
    return str(synthetic.store(folder, records, commit=f"{number}" * 12, **suite))


@pytest.fixture
def folders(tmp_path):
    """Five versions, of which the fourth made NNX half as fast again."""
    speeds = enumerate((2.0, 2.0, 2.0, 3.0, 3.0), 1)
    return [version(tmp_path / f"v{number}", number, nnx) for number, nnx in speeds]


def test_a_change_is_named_with_what_else_differs(folders, capsys):
    assert cli.main(["history", *folders]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "4 v4 (commit 44444444, 2026-01-02)" in out
    assert "speed relative to torch compile" in out
    assert "1.50× from 4" in out or "1.49× from 4" in out or "1.51× from 4" in out
    assert "→ nnx split (ppo · gymnax/CartPole-v1 · train · num_envs 4) became" in out
    assert "up to 3, " in out
    assert "from 4 (v4, commit 44444444), p < 0.0001" in out
    assert "what differs: jax 0.10.2 → 0.11.0" in out


def test_json_has_every_point_and_change(folders, capsys):
    assert cli.main(["history", *folders, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [folder["name"] for folder in found["folders"]] == ["v1", "v2", "v3", "v4", "v5"]
    (series,) = found["series"]
    assert len(series["points"]) == 5
    (change,) = series["changes"]
    assert (change["after"], change["before"]) == (2, 3)
    assert change["differences"] == {"jax": ["0.10.2", "0.11.0"]}


def test_without_a_change_it_says_so(folders, capsys):
    assert cli.main(["history", *folders[:3]]) == 0
    assert "→ no change is certain: 1 cell over 3 folders" in capsys.readouterr().out


def test_the_chart_has_a_line_for_each_cell_and_change(folders, tmp_path, capsys):
    out = tmp_path / "history.svg"
    assert cli.main(["history", *folders, "-o", str(out)]) == 0
    assert f"chart: {out}" in capsys.readouterr().out
    text = out.read_text()
    assert text.startswith("<svg")
    assert "nnx split" in text
    assert "stroke-dasharray" in text


def test_folders_are_ordered_by_date_unless_the_order_given_is_kept(folders, tmp_path, capsys):
    day = {"started_at": "2026-01-01T00:00:00Z"}
    (tmp_path / "early").mkdir()
    records = [{**r, **(day if r["kind"] == "visit" else {})} for r in read_records(folders[4])]
    early = str(synthetic.store(tmp_path / "early", records))

    def names(*arguments):
        assert cli.main(["history", *folders[:2], early, "--json", *arguments]) == 0
        printed = capsys.readouterr()
        return [one["name"] for one in json.loads(printed.out)["folders"]], printed.err

    assert names() == (
        ["early", "v1", "v2"],
        "tiebreak: ordered by the dates of their first runs; --as-given keeps the order given\n",
    )
    assert names("--as-given") == (["v1", "v2", "early"], "")


def test_a_table_has_every_point(folders, tmp_path, capsys):
    out = tmp_path / "history.csv"
    assert cli.main(["history", *folders, "-o", str(out)]) == 0
    assert f"table: {out}" in capsys.readouterr().out
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert [row["folder"] for row in rows] == ["v1", "v2", "v3", "v4", "v5"]
    assert [bool(row["changed_by"]) for row in rows] == [False, False, False, True, False]
    assert rows[3]["commit"] == "44444444"
    assert float(rows[3]["low"]) < float(rows[3]["ratio"]) < float(rows[3]["high"])


def test_folders_of_two_suites_are_followed_with_a_warning(folders, tmp_path, capsys):
    other = version(tmp_path / "full", 6, 3.0, scale="full")
    assert cli.main(["history", *folders, other]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "tiebreak: not one suite: quick at scale quick (v1, v2, v3, v4 and 1 more), quick at scale "
        "full (full); what looks like a change between them may be one of how it was measured"
    )


def test_a_damaged_record_is_named_and_left_out(folders, capsys):
    file = Path(folders[2]) / "records.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"visit"', b'"visIt"', 1))
    assert cli.main(["history", *folders]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tiebreak: v3: left out 1 record (damaged: line ")


def test_a_folder_without_a_ratio_is_named(folders, tmp_path, capsys):
    once = version(tmp_path / "once", 6, 3.0, blocks=1)
    assert cli.main(["history", *folders, once]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "tiebreak: once has no ratio that another folder has on the same hardware"


@pytest.fixture
def wrong(folders, tmp_path):
    """What a user may give by mistake."""
    version(tmp_path / "once", 6, 3.0, blocks=1)
    version(tmp_path / "elsewhere", 7, 3.0, cpu="Other CPU")
    version(tmp_path / "other", 8, 3.0, group=synthetic.ELSEWHERE[0], suite="speed")
    shutil.copytree(folders[0], tmp_path / "copy")
    for name in ("sac-s0", "runs/sac-s0"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "studies.json").write_text("{}")
    shutil.copytree(folders[0], tmp_path / "broken")
    (tmp_path / "broken" / "records.jsonl").write_text("no record\n")
    shutil.copytree(folders[0], tmp_path / "half")
    (tmp_path / "half" / "suite.json").write_text("{")


@pytest.mark.usefixtures("wrong")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["v1"], "a history needs two results folders or more"),
        (["v1", "none"], "there is no results folder"),
        (["v1", "v2", "-o", "h.pdf"], "-o takes a file that ends in .html, .svg, .png or .csv"),
        (["v1", "v2", "--relative-to", "lines"], "unknown reference 'lines'"),
        (["v1", "v1"], "'v1' and 'v1' hold the same run, which would count twice"),
        (["v1", "v2", "copy"], "'v1' and 'copy' hold the same run"),
        (["v1", "sac-s0"], "'sac-s0' holds training runs; a history is made from results"),
        (["runs", "v1"], "'runs' holds training runs"),
        (["v1", "study"], "'study' holds studies"),
        (["v1", "broken"], "holds no record of tiebreak"),
        (["v1", "half"], "'half' has no readable suite.json"),
        (["v1", "once"], "no ratio with an interval in once, and a history needs two folders"),
        (["v1", "elsewhere"], "the folders were measured on different hardware"),
        (
            ["v1", "other"],
            "no cell is in two of the folders (quick at scale quick (v1), speed at scale quick "
            "(other)): run the same suite",
        ),
        (["v1", "v2", "-o", "v1/h.html/x.html"], "cannot write 'v1/h.html/x.html'"),
    ],
)
def test_what_makes_no_history_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "v1" / "h.html").write_text("")
    assert cli.main(["history", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
