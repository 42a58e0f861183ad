"""`tiebreak run`: which suites there are, what one would do, and who is called with what."""

from __future__ import annotations

import json
import subprocess

import pytest

from tiebreak import cli, registry
from tiebreak.bench.manager import manager, store
from tiebreak.bench.suite import suite
from tiebreak.bench.suite.suite import SCHEMA_FILE
from tiebreak.report import html
from tiebreak.selftest import run as selftest

MINE = """
[scales.quick]
stages = [4, 8]
certificate = false
[[races]]
task = "gymnax/CartPole-v1"
num_envs = [16, 64]
probes = ["train"]
rows = [{ framework = "torch" }, { framework = "nnx" }]
"""


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.toml").write_text(MINE)
    return "mine.toml"


@pytest.fixture
def idle(monkeypatch):
    """Any process that is started is an error."""
    monkeypatch.setattr(subprocess, "Popen", None)


def run(capsys, *argv, status=0):
    assert cli.main(["run", *argv]) == status
    return capsys.readouterr()


def test_without_a_suite_those_that_exist_are_told(capsys):
    out = run(capsys).out
    for name, about in suite.descriptions().items():
        assert f"  {name:<10} {about}\n" in out
    assert "  self-test " in out
    assert "tiebreak run --example" in out
    assert json.loads(run(capsys, "--json").out).keys() == {*suite.names(), "self-test"}


def test_the_list_has_the_suites_too(capsys):
    assert cli.main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["suites"]
    assert found == json.loads(run(capsys, "--json").out)


@pytest.mark.usefixtures("idle")
def test_the_example_can_be_shown_at_once(capsys, tmp_path):
    text = run(capsys, "--example").out
    assert text.startswith(f"#:schema {SCHEMA_FILE.as_uri()}\n")
    (tmp_path / "my-suite.toml").write_text(text)
    for scale in ("quick", "full"):
        out = run(capsys, "my-suite.toml", "--dry-run", "--scale", scale).out
        assert out.startswith(f"suite my-suite, scale {scale}: 20 cells in 6 groups\n")


@pytest.mark.usefixtures("idle")
def test_a_dry_run_shows_cells_visits_blocks_and_time_and_does_nothing(capsys, tmp_path, mine):
    out = run(capsys, mine, "--dry-run", "--out", "results").out
    assert "\nppo · gymnax/CartPole-v1 · train · num_envs 64\n" in out
    lines = {" ".join(line.split()) for line in out.splitlines()}
    assert "torch compile, bridge torch compile host" in lines
    assert "nnx split nnx split fused" in lines
    assert "runs 4 in a block, a process each, of one cell" in lines
    assert "blocks 4 to 8: until each interval is ± 1.5 % or narrower" in lines
    (time,) = [line for line in lines if line.startswith("time about ")]
    assert " a block, " in time
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


@pytest.mark.usefixtures("idle")
def test_a_dry_run_for_machines_holds_every_setting(capsys, mine):
    found = json.loads(run(capsys, mine, "--dry-run", "--json").out)
    assert [(c["num_envs"], c["framework"], c["mode"]) for c in found["cells"]] == [
        (16, "torch", "compile"), (16, "nnx", "split"), (64, "torch", "compile"),
        (64, "nnx", "split"),
    ]  # fmt: skip
    assert {c["missing"] for c in found["cells"]} == {None}
    assert found["settings"]["stages"] == [4, 8]
    forecast = found["forecast"]
    assert (forecast["least_blocks"], forecast["most_blocks"]) == (4, 8)
    assert 0 < forecast["block_s"] < forecast["least_s"] < forecast["most_s"]


@pytest.mark.usefixtures("idle")
def test_a_dry_run_says_what_is_not_installed_and_counts_it_out(capsys, monkeypatch, mine):
    whole = run(capsys, mine, "--dry-run").out
    monkeypatch.setattr(
        registry, "missing_packages", lambda names: [n for n in names if n == "flax"]
    )
    out = run(capsys, mine, "--dry-run").out
    assert out.count(f"flax not installed: {registry.how_to_install('jax', 'gymnax')}") == 2
    assert "runs    4 " in whole
    assert "runs    2 " in out


def test_a_mistake_is_said_with_its_line(capsys, tmp_path, mine):
    (tmp_path / mine).write_text(MINE.replace("framework", "frame_work"))
    for options in ((), ("--dry-run",)):
        said = run(capsys, mine, *options, status=2).err
        assert said.startswith("tiebreak: mine.toml:9: unknown row key 'frame_work'; did you mean")
        assert said.count("\n") == 1


WRONG = {
    "--only does not go with suite 'quick'": ("quick", "--only", "leak"),
    "--seed does not go with suite 'self-test'": ("self-test", "--seed", "0"),
    "--device does not go with suite 'self-test'": ("self-test", "--device", "cpu"),
    "--dry-run does not go with suite 'self-test'": ("self-test", "--dry-run"),
    "--seed does not go with --resume": ("quick", "--resume", "--out", "x", "--seed", "0"),
    "--dry-run does not go with --resume": ("quick", "--resume", "--out", "x", "--dry-run"),
    "--dry-run needs a suite: ": ("--dry-run",),
    "--out needs a suite: ": ("--out", "x"),
    "leave the suite out": ("quick", "--example"),
    "unknown check of the self-test 'leek'": ("self-test", "--only", "leek"),
    "unknown suite 'selftest'; did you mean": ("selftest",),
    "cannot read suite 'none.toml'": ("none.toml",),
}


@pytest.mark.parametrize("message", WRONG)
def test_options_that_mean_nothing_together_are_refused(capsys, tmp_path, message):
    captured = run(capsys, *WRONG[message], status=2)
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_seed_and_a_device_reach_the_run(monkeypatch, mine):
    called = []

    def run_suite(suite, **options):
        assert suite == mine
        called.append(options)
        raise KeyboardInterrupt("stop here")

    monkeypatch.setattr(manager, "run_suite", run_suite)
    assert cli.main(["run", mine, "--seed", "0"]) == 130
    assert cli.main(["run", mine, "--scale", "full", "--device", "gpu"]) == 130
    assert cli.main(["run", mine, "--share", "2/3"]) == 130
    common = {"out": None, "resume": False, "scale": None, "seed": None, "device": None}
    assert called == [
        {**common, "seed": 0, "share": None},
        {**common, "scale": "full", "device": "gpu", "share": None},
        {**common, "share": "2/3"},
    ]


@pytest.fixture
def tested(monkeypatch, tmp_path):
    """The self-test, replaced: two rows, one of which fails when `fails` is set."""
    state = {"fails": False}

    def run_rows(*args):
        state["args"] = args
        folder = tmp_path / "out"
        writer = store.Store(folder)
        for name, passed in (("leak", True), ("hog", not state["fails"])):
            row = {"row": name, "title": name, "rule": "r", "detail": f"{name} seen", "seconds": 1}
            row["fingerprint"] = "0" * 16
            writer.append({"kind": "selftest", **row, "passed": passed, "measured": {}})
        writer.close()
        return folder

    monkeypatch.setattr(selftest, "run", run_rows)
    monkeypatch.setattr(html, "write_report", lambda folders, path: path)
    return state


def test_the_self_test_is_run_by_name(capsys, tested, tmp_path):
    out = run(capsys, "self-test", "--only", "leak, hog", "--scale", "smoke", "--resume").out
    assert tested["args"] == (None, "smoke", ["leak", "hog"], True)
    assert "leak seen" in out
    assert f"report: {tmp_path / 'out' / 'report.html'}" in out


def test_a_row_that_fails_is_named(capsys, tested):
    tested["fails"] = True
    captured = run(capsys, "self-test", "--json", status=1)
    assert [row["passed"] for row in json.loads(captured.out)["rows"]] == [True, False]
    assert tested["args"] == (None, None, None, False)
    assert captured.err == "tiebreak: hog: hog seen\n"
