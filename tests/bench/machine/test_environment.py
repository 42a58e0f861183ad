"""Rows in other environments: their interpreters, versions, labels and errors."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from bench import fakes

import tiebreak
from tiebreak.bench.machine import environment
from tiebreak.bench.machine.availability import why_unavailable
from tiebreak.bench.machine.fingerprint import distributions, packages, source
from tiebreak.bench.manager.manager import run_suite
from tiebreak.bench.manager.store import read_records
from tiebreak.bench.manager.worker_env import python_path
from tiebreak.bench.suite import suite
from tiebreak.bench.suite.plan import Cell
from tiebreak.core.errors import UsageError

SUITE = """
[scales.smoke]
share_process = true
blocks = 2
certificate = false
sample_s = 0.001
samples = 3
steady_s = 0.001
warmup_s = 0.01
silent_calls = 2
[[races]]
task = "gymnasium/CartPole-v1"
num_envs = 2
probes = ["update"]
rows = [
  {{ framework = "linen", label = "fine" }},
  {{ framework = "linen", {row} }},
]
"""
PACKAGE_FOLDER = str(Path(tiebreak.__file__).resolve().parents[1])


def interpreter(folder: Path, options: str = "") -> str:
    """Make an environment's `bin/python` that runs this Python with `options`."""
    path = folder / "bin" / "python"
    path.parent.mkdir(parents=True)
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {options} "$@"\n')
    path.chmod(0o755)
    return str(path)


def write_suite(tmp_path, row):
    path = tmp_path / "versions.toml"
    path.write_text(SUITE.format(row=row))
    return str(path)


def test_an_environment_is_described_as_the_fingerprint_describes_ours(tmp_path):
    described = environment.describe(interpreter(tmp_path / "other"))
    assert described["packages"] == packages()
    assert described["source"] == source()
    assert described["installed_digest"] == distributions()["installed_digest"]


def test_a_row_with_python_runs_there_and_is_recorded_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", fakes.python_path())
    python = interpreter(tmp_path / "torch-2.12")
    file = write_suite(tmp_path, f'python = "{python}", label = "fine"')
    folder = run_suite(
        file, tmp_path / "out", "smoke", progress=False, subject="bench.fakes:make_subject"
    )
    records = read_records(folder)
    visits = [r for r in records if r["kind"] == "visit"]
    assert [r["status"] for r in visits] == ["ok"] * 4
    there = [r for r in visits if r["cell"].get("python")]
    assert {r["cell"]["python"] for r in there} == {python}
    assert {r["cell_id"] for r in there} == {Cell.from_json(there[0]["cell"]).id}
    assert all(r["environment"]["packages"] == packages() for r in there)
    assert all("environment" not in r for r in visits if r not in there)
    (machine,) = [r["machine"] for r in records if r["kind"] == "machine"]
    assert list(machine["environments"]) == [python]


def test_the_worker_is_started_with_that_interpreter_and_its_tiebreak(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", fakes.python_path())
    python = interpreter(tmp_path / "other")
    Path(python).write_text(f'#!/bin/sh\necho "$PYTHONPATH" >> {tmp_path}/seen\nexit 3\n')
    monkeypatch.setattr(environment, "describe", lambda python, lent: {"packages": {}})
    monkeypatch.setattr(environment, "missing_packages", lambda python, packages: [])
    file = write_suite(tmp_path, f'python = "{python}"')
    folder = run_suite(
        file, tmp_path / "out", "smoke", progress=False, subject="bench.fakes:make_subject"
    )
    visits = [r for r in read_records(folder) if r["kind"] == "visit"]
    assert {r["status"] for r in visits if r["cell"].get("python")} == {"crash"}
    assert {r["status"] for r in visits if not r["cell"].get("python")} == {"ok"}
    seen = (tmp_path / "seen").read_text().splitlines()
    tests = fakes.python_path().split(":")[1]
    assert seen == [tests, tests]  # without our own tiebreak


def test_our_own_workers_have_our_tiebreak_first(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "")
    assert python_path(other=False) == PACKAGE_FOLDER
    assert python_path(other=True) == ""


@pytest.mark.parametrize(
    ("python", "label"),
    [
        ("envs/torch-2.12/bin/python", "linen jit @ torch-2.12"),
        ("base/.venv/bin/python3", "linen jit @ base"),
        ("", "linen jit"),
    ],
)
def test_the_label_names_the_environment(python, label, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if python:
        Path(interpreter(tmp_path / Path(python).parents[1])).rename(tmp_path / python)
    plan = suite.load(write_suite(tmp_path, f'python = "{python}"'), "smoke", 0)
    assert plan.cells[1].label == label
    assert plan.cells[1].group == plan.cells[0].group
    assert ("python" in plan.cells[1].to_json()) == bool(python)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: str(folder / "none/bin/python"), "there is no interpreter"),
        (lambda folder: str(folder), "there is no interpreter"),
        (lambda folder: __file__, "cannot be executed"),
        (lambda folder: interpreter(folder / "bare", "-S"), "has no tiebreak; install"),
        (lambda folder: "/bin/false", "is no interpreter of Python 3.11 or newer: exit status 1"),
    ],
)
def test_an_interpreter_that_is_of_no_use_is_refused_before_anything_runs(make, message, tmp_path):
    file = write_suite(tmp_path, f'python = "{make(tmp_path)}"')
    with pytest.raises(UsageError, match=message) as error:
        run_suite(file, tmp_path / "out", "smoke", progress=False)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_package_that_is_missing_there_is_named(tmp_path):
    python = interpreter(tmp_path / "bare", "-S")
    cell = Cell("ppo", "linen", "jit", "gymnasium/CartPole-v1", "host", "update", python=python)
    assert why_unavailable(cell).endswith(f"not installed for {python}")
