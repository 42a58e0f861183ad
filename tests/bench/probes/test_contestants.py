"""A row of a race that names another library's implementation, from the suite to the table."""

from __future__ import annotations

import io

import pytest
from bench import fakes
from bench.suite.test_suite import MINIMAL, load
from rich.console import Console

from tiebreak.bench.machine.availability import required_packages, why_unavailable
from tiebreak.bench.manager.manager import run_suite
from tiebreak.bench.manager.store import read_records
from tiebreak.core.errors import UsageError
from tiebreak.report.tables import print_summary
from tiebreak.stats.ratios import summarize

SUITE = """
algorithm = "ppo"
[scales.smoke]
blocks = 2
certificate = false
sample_s = 0.001
samples = 3
steady_s = 0.001
warmup_s = 0.01
silent_calls = 2
memory_calls = 0
timeout_s = 60
[[races]]
task = "gymnasium/CartPole-v1"
num_envs = 2
probes = ["train"]
rows = [
    { contestant = "bench.fake_contestant:honest", label = "honest" },
    { contestant = "bench.fake_contestant:lazy" },
]
"""


@pytest.fixture
def records(tmp_path, monkeypatch):
    pytest.importorskip("gymnasium")
    monkeypatch.setenv("PYTHONPATH", fakes.python_path())
    path = tmp_path / "contestants.toml"
    path.write_text(SUITE)
    folder = run_suite(str(path), tmp_path / "out", "smoke", progress=False)
    return [record for record in read_records(folder) if record["kind"] == "visit"]


def test_contestants_are_measured_checked_and_shown(records):
    by_label = {record["cell"]["label"]: record for record in records}
    honest = by_label["honest (not proved)"]
    assert (honest["status"], honest["error"]) == ("ok", "")
    assert honest["cell"]["contestant"] == "bench.fake_contestant:honest"
    assert honest["unit"] == "env steps"
    assert (
        honest["work"]["env_steps"]
        == honest["work"]["calls"] * honest["units_per_sample"] / (honest["calls_per_sample"])
    )

    lazy = by_label["bench.fake_contestant (not proved)"]
    assert lazy["status"] == "failed"
    assert "env_steps differ by" in lazy["error"]

    text = io.StringIO()
    print_summary(summarize(records), Console(file=text, width=160))
    assert "honest (not proved)" in text.getvalue()


def test_packages_of_a_contestant_are_required(tmp_path):
    row = '{ contestant = "a.b:make", packages = ["no_such_package"] }'
    text = MINIMAL.replace('"update", "train"', '"train"')
    cells = load(tmp_path, text.replace('{ framework = "nnx" }', row)).cells
    cell = cells[-1]
    assert (cell.framework, cell.mode, cell.label) == ("contestant", "", "a.b (not proved)")
    assert required_packages(cell) == ("no_such_package", "gymnasium")
    assert "no_such_package" in why_unavailable(cell)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{ contestant = "a.b:make" }', "cannot be measured by the probe update (valid: train)"),
        ('{ contestant = "make" }', "contestant takes 'module:function', got 'make'"),
        ('{ contestant = "a:b", mode = "jit" }', "mode is for our own implementations"),
        ('{ contestant = "a:b", packages = [1] }', "packages takes a list of strings, got [1]"),
        ('{ framework = "nnx", packages = ["a"] }', "packages are those of a contestant"),
    ],
)
def test_wrong_rows_are_refused(tmp_path, row, message):
    with pytest.raises(UsageError) as caught:
        load(tmp_path, MINIMAL.replace('{ framework = "nnx" }', row))
    assert message in str(caught.value)
