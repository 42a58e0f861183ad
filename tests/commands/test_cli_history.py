"""`tiebreak history`: folders in the order given, a row for each cell, a line for each change."""

from __future__ import annotations

import json
from typing import Any

import pytest
from stats import synthetic

from tiebreak import cli


@pytest.fixture
def folders(tmp_path):
    """Five versions, of which the fourth made NNX half as fast again."""
    made = []
    for number, nnx in enumerate((2.0, 2.0, 2.0, 3.0, 3.0), 1):
        about = synthetic.machine(f"{number}" * 16)
        version = "0.10.2" if number < 4 else "0.11.0"
        about["machine"] = {**about["machine"], "packages": {"jax": version}}
        speeds = {"torch compile": 1.0, "nnx split": nnx}
        more: dict[str, Any] = {"fingerprint": f"{number}" * 16, "run_id": f"run-{number}"}
        records = [about, *synthetic.race(speeds, blocks=4, seed=number, **more)]
        made.append(str(synthetic.store(tmp_path / f"v{number}", records, commit=f"{number}" * 12)))
    return made


def test_a_change_is_named_with_what_else_differs(folders, capsys):
    assert cli.main(["history", *folders]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "4 v4 (commit 44444444, 2026-01-02)" in out
    assert "speed relative to torch compile" in out
    assert "1.50× from 4" in out or "1.49× from 4" in out or "1.51× from 4" in out
    assert "→ nnx split (ppo · gymnax/CartPole-v1 · train · num_envs 4) became" in out
    assert "up to 3, " in out
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["v1"], "a history needs two results folders or more"),
        (["v1", "none"], "there is no results folder"),
        (["v1", "v2", "-o", "h.pdf"], "-o takes a file that ends in .svg or .png"),
        (["v1", "v2", "--relative-to", "lines"], "unknown reference 'lines'"),
    ],
)
def test_what_makes_no_history_is_one_line(
    folders, tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["history", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
