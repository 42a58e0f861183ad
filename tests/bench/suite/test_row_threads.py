"""Rows of one race that differ in the number of their library's threads."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path

import pytest
from bench import fakes
from bench.suite.test_suite import MINIMAL, load

from tiebreak.bench.manager.manager import run_suite
from tiebreak.bench.manager.store import read_records
from tiebreak.bench.record_fields import CellFields
from tiebreak.bench.suite.plan import Cell, Job
from tiebreak.core.process_env import affinity

RACE = """
[scales.quick]
blocks = 4
[[races]]
task = "gymnasium/CartPole-v1"
probes = ["update"]
rows = [{ framework = "torch", threads = 1 }, { framework = "torch", threads = 2 }]
"""


def test_the_label_names_them_and_the_group_is_one(tmp_path):
    plan = load(tmp_path, RACE)
    assert len(plan.groups()) == 1
    assert {(cell.label, cell.threads) for cell in plan.cells} == {
        ("torch compile, 1 thread", 1),
        ("torch compile, 2 threads", 2),
    }
    assert len({cell.id for cell in plan.cells}) == 2


def test_a_row_without_them_is_what_it_was(tmp_path):
    for cell in load(tmp_path, MINIMAL).cells:
        assert cell.threads == 0
        assert "threads" not in cell.to_json()
        assert Cell.from_json(cell.to_json()) == cell


@pytest.mark.parametrize("fixed", [True, False])
def test_workers_are_told_of_a_row_s_own_threads_and_older_ones_of_nothing_new(fixed):
    cell = Cell("dqn", "tensorflow", "xla", "gymnasium/CartPole-v1", "host", "train")
    written = Job((cell,), threads=2, fixed_threads=fixed).to_json()
    assert ("fixed_threads" in written) == fixed
    assert Job.from_json(written).fixed_threads == fixed


def test_the_schema_of_records_knows_every_field_of_a_cell():
    written = {field.name for field in dataclasses.fields(Cell)}
    assert written | {"cell_id", "id"} == set(typing.get_type_hints(CellFields))


def test_each_row_runs_with_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", fakes.python_path())
    file = Path(fakes.suite(tmp_path, "fine", "fine", probes=["update"]))
    file.write_text(file.read_text().replace('label = "fine"', 'label = "fine", threads = 3', 1))
    folder = run_suite(
        str(file), tmp_path / "out", "smoke", progress=False, subject="bench.fakes:make_subject"
    )
    visits = [record for record in read_records(folder) if record["kind"] == "visit"]
    read_back = {
        (visit["cell"].get("threads", 0), visit["settings"]["threads"]) for visit in visits
    }
    assert read_back == {(3, 3), (0, len(affinity()))}
    assert {visit["status"] for visit in visits} == {"ok"}
    assert not any(visit["flags"] for visit in visits if "parity_mismatch" in visit["flags"])
