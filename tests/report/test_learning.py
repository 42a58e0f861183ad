"""Learning curves: lines over seeds by hand-computed values, files, and errors in one line."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from tiebreak import cli
from tiebreak.core.errors import UsageError
from tiebreak.report.learning import make_lines, read_curves
from tiebreak.report.learning_results import summary_rows

STEPS = (100, 200, 300)


def write_run(folder, returns, seed=0, steps=STEPS, **about):
    """Write a run with one evaluation of two episodes, mean `returns[i]`, at each of `steps`."""
    folder.mkdir(parents=True)
    about = {"algorithm": "sac", "framework": "torch", "mode": "eager", "loop": "host",
             "task": "gymnasium/Pendulum-v1", "config": {"gamma": 0.9}, **about}  # fmt: skip
    (folder / "config.json").write_text(json.dumps({**about, "seed": seed}))
    lines = [{"steps": s, "returns": [r - 1, r + 1]} for s, r in zip(steps, returns, strict=True)]
    (folder / "eval.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    log = [{"steps": s, "seconds": 0.6 * s} for s in (0, 400)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))


def test_seeds_are_one_line_and_its_middle_half_is_the_mean(tmp_path):
    for seed, end in enumerate((0.0, 10.0, 20.0, 100.0)):
        write_run(tmp_path / f"s{seed}", (0.0, 1.0, end), seed)
    (line,) = make_lines(read_curves([tmp_path]))
    assert (line.label, line.seeds) == ("sac torch", (0, 1, 2, 3))
    assert line.x.tolist() == list(STEPS)
    assert line.value.tolist() == [0.0, 1.0, 15.0]  # of 0, 10, 20, 100 the middle two
    assert line.low is not None
    assert line.high is not None
    assert (line.low[1], line.high[1]) == (1.0, 1.0)
    assert 0 <= line.low[2] < 15 < line.high[2] <= 100


def test_lines_are_told_apart_by_what_differs_and_settings_within_an_algorithm_only(tmp_path):
    write_run(tmp_path / "a", (1, 2, 3))
    write_run(tmp_path / "b", (1, 2, 3), config={"gamma": 0.99})
    write_run(tmp_path / "c", (1, 2, 3), framework="nnx", algorithm="ppo", config={"clip": 0.2})
    labels = [line.label for line in make_lines(read_curves([tmp_path]))]
    assert labels == ["sac torch, gamma 0.9", "sac torch, gamma 0.99", "ppo nnx"]


def test_minutes_are_those_of_training_and_lines_end_with_their_shortest_curve(tmp_path):
    write_run(tmp_path / "a", (1, 2, 3), 0)
    write_run(tmp_path / "b", (3, 4), 1, steps=(100, 200))
    (line,) = make_lines(read_curves([tmp_path]), "minutes")
    assert np.allclose(line.x, [1.0, 2.0])
    assert line.value.tolist() == [2.0, 3.0]


def test_curves_without_a_minute_in_common_have_no_points(tmp_path):
    write_run(tmp_path / "fast", (1, 2, 3), 0)
    write_run(tmp_path / "slow", (1, 2, 3), 1, steps=(500, 600, 700))
    log = [{"steps": s, "seconds": 10 * s} for s in (0, 800)]
    (tmp_path / "slow/metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in log))
    (line,) = make_lines(read_curves([tmp_path]), "minutes")
    assert len(line.x) == len(line.value) == len(line.low) == 0
    assert line.finals == (3.0, 3.0)


def test_each_agent_of_a_population_is_a_seed(tmp_path):
    write_run(tmp_path / "many", (1, 2, 3), seed=5)
    lines = [{"steps": s, "returns": [[1.0, 3.0], [5.0, 7.0]]} for s in STEPS]
    (tmp_path / "many/eval.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    (line,) = make_lines(read_curves([tmp_path / "many"]))
    assert line.seeds == (5, 6)
    assert line.value.tolist() == [4.0, 4.0, 4.0]


def test_agents_of_a_sweep_are_told_apart_by_their_settings(tmp_path):
    agents = [{"seed": 5, "gamma": 0.9}, {"seed": 5, "gamma": 0.99}]
    write_run(tmp_path / "many", (1, 2, 3), seed=5, agents=agents)
    lines = [{"steps": s, "returns": [[1.0, 3.0], [5.0, 7.0]]} for s in STEPS]
    (tmp_path / "many/eval.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    labels = {line.label: line.seeds for line in make_lines(read_curves([tmp_path / "many"]))}
    assert labels == {"sac torch, gamma 0.9": (5,), "sac torch, gamma 0.99": (5,)}


def test_agents_in_processes_have_folders_of_their_own_in_the_run(tmp_path):
    (tmp_path / "runs/many").mkdir(parents=True)
    (tmp_path / "runs/many/config.json").write_text('{"seeds": 2}')
    for number in range(2):
        write_run(tmp_path / f"runs/many/agent-00{number}", (1, 2, 3), seed=number)
    for path in (tmp_path / "runs", tmp_path / "runs/many"):
        (line,) = make_lines(read_curves([path]))
        assert line.seeds == (0, 1)


@pytest.mark.parametrize("suffix", ["svg", "png", "csv"])
def test_the_command_writes_a_chart_or_a_table(tmp_path, capsys, suffix):
    write_run(tmp_path / "runs/a", (1, 2, 3))
    out = tmp_path / f"curves.{suffix}"
    assert cli.main(["plot", str(tmp_path / "runs"), "-o", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    data = out.read_bytes()
    if suffix == "csv":
        rows = list(csv.DictReader(data.decode().splitlines()))
        assert [row["iqm"] for row in rows] == ["1.0", "2.0", "3.0"]
        assert rows[0]["low"] == ""  # one seed has no interval
    else:
        assert data.startswith({"svg": b"<svg", "png": b"\x89PNG"}[suffix])


def test_json_has_the_points(tmp_path, capsys):
    write_run(tmp_path / "a", (1, 2, 3))
    assert cli.main(["plot", str(tmp_path / "a"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["steps"], row["iqm"]) for row in rows] == [(100, 1), (200, 2), (300, 3)]


def test_what_cannot_be_plotted_is_one_line(tmp_path, capsys):
    write_run(tmp_path / "a", (1, 2, 3))
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "never", (), steps=())
    for words, says in (
        ([tmp_path / "empty"], "has no config.json"),
        ([tmp_path / "never"], "train with --eval-every N"),
        ([tmp_path / "a", "--over", "hours"], "unknown axis 'hours'"),
        ([tmp_path / "a", "-o", "curves.gif"], "ends in .svg, .png or .csv"),
        ([tmp_path / "a", "-o", tmp_path / "a/config.json/curves.csv"], "cannot write"),
    ):
        assert cli.main(["plot", *map(str, words)]) == 2, words
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert says in error


@pytest.mark.parametrize("text", ["[1]\n", "{\n", '{"steps": "a", "returns": []}\n' * 2])
def test_a_broken_log_is_one_line(tmp_path, text):
    write_run(tmp_path / "a", (1, 2, 3))
    (tmp_path / "a/eval.jsonl").write_text(text * 2)
    with pytest.raises(UsageError, match=r"cannot (be )?read"):
        read_curves([tmp_path / "a"])


def write_two_lines(folder):
    for seed, end in enumerate((10.0, 20.0, 30.0)):
        write_run(folder / f"a{seed}", (0.0, 1.0, end), seed)
        write_run(folder / f"b{seed}", (0.0, 1.0, end - 15), seed, framework="nnx")


def test_lines_are_ranked_with_the_probability_that_the_first_is_better(tmp_path):
    write_two_lines(tmp_path)
    first, second = summary_rows(make_lines(read_curves([tmp_path])))
    assert (first["line"], first["final"], first["below_first"]) == ("sac torch", 20.0, None)
    assert (second["line"], second["final"]) == ("sac nnx", 5.0)
    assert second["below_first"] == pytest.approx(8 / 9)  # 10 is below 15, all other pairs are not
    assert first["mean"] == pytest.approx((0.5 + 10.5) / 2)


def test_each_seed_and_each_profile_has_its_rows(tmp_path, capsys):
    write_two_lines(tmp_path)
    assert cli.main(["plot", str(tmp_path), "--kind", "seeds", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["line"], row["seed"], row["final"]) for row in rows][:4] == [
        ("sac torch", 0, 10), ("sac torch", 1, 20), ("sac torch", 2, 30), ("sac nnx", 0, -5),
    ]  # fmt: skip
    assert cli.main(["plot", str(tmp_path), "--kind", "profiles", "--json"]) == 0
    rows = [row for row in json.loads(capsys.readouterr().out) if row["line"] == "sac torch"]
    assert [row["share"] for row in rows if 10 < row["return"] < 20] == pytest.approx(
        [2 / 3] * sum(10 < row["return"] < 20 for row in rows)
    )
    assert (rows[0]["share"], rows[-1]["share"]) == (1.0, 0.0)


@pytest.mark.parametrize("kind", ["profiles", "seeds"])
def test_every_kind_is_drawn(tmp_path, kind):
    write_two_lines(tmp_path / "runs")
    out = tmp_path / "chart.svg"
    assert cli.main(["plot", str(tmp_path / "runs"), "--kind", kind, "-o", str(out)]) == 0
    assert out.read_text().startswith("<svg")


def test_a_report_about_training_runs_is_a_page_with_the_answer(tmp_path, capsys):
    write_two_lines(tmp_path / "runs")
    out = tmp_path / "page.html"
    assert cli.main(["report", str(tmp_path / "runs"), "-o", str(out)]) == 0
    page = out.read_text()
    assert "sac torch ends highest, at 20.0" in page.replace("\n", " ")
    assert page.count("<svg") == 4
    assert "<script" not in page
    assert len(page) < 150_000
    assert cli.main(["report", str(tmp_path / "runs"), "--assets", "x", "-o", str(out)]) == 2
    assert "see: tiebreak plot" in capsys.readouterr().err
