"""A run: complete, resumed exactly, never mixed, and without a framework in its process."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from bench import fakes

from tiebreak import registry
from tiebreak.bench.manager import manager, runner, store
from tiebreak.bench.manager.manager import run_suite
from tiebreak.core.errors import UsageError

SUBJECT = "bench.fakes:make_subject"


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", fakes.python_path())


@pytest.fixture
def race(tmp_path):
    suite = fakes.suite(tmp_path, "fine", "exits")

    def run(out="out", resume=False):
        return run_suite(suite, tmp_path / out, "smoke", resume, progress=False, subject=SUBJECT)

    return run


def measured(folder):
    return [r for r in store.read_records(folder) if r["kind"] == "visit"]


def keys(folder):
    return sorted((r["block"], r["cell_id"]) for r in measured(folder))


def test_a_run_measures_every_cell_in_every_block(race):
    folder = race()
    suite = store.read_suite(folder)
    ids = [cell["id"] for cell in suite["cells"]]
    assert keys(folder) == sorted((block, i) for block in (0, 1) for i in ids)
    assert {i for group in suite["groups"].values() for i in group} == set(ids)
    assert {r["run_id"] for r in store.read_records(folder)} == {suite["run_id"]}
    kinds = [r["kind"] for r in store.read_records(folder)]
    assert kinds.count("canary") == 4
    assert kinds[0] == "machine"


def test_resume_runs_exactly_what_is_missing(race, tmp_path):
    folder = race()
    complete, lines = keys(folder), (folder / store.RECORDS).read_bytes().splitlines(True)
    for cut in (3, len(lines) - 3):
        shutil.rmtree(tmp_path / "cut", ignore_errors=True)
        shutil.copytree(folder, tmp_path / "cut")
        (tmp_path / "cut" / store.RECORDS).write_bytes(b"".join(lines[:cut]) + b'{"torn')
        kept = keys(tmp_path / "cut")
        race("cut", resume=True)
        assert keys(tmp_path / "cut") == complete
        assert measured(tmp_path / "cut")[: len(kept)] == measured(folder)[: len(kept)]


def test_resuming_a_complete_run_measures_nothing(race):
    folder = race()
    before = keys(folder)
    race(resume=True)
    assert keys(folder) == before


def test_results_are_never_overwritten_or_mixed(race, tmp_path):
    folder = race()
    with pytest.raises(UsageError, match="holds results already: add --resume"):
        race()
    other = fakes.suite(tmp_path, "fine", "raises")
    with pytest.raises(UsageError, match="holds another run: its cells differs"):
        run_suite(other, folder, "smoke", True, progress=False)
    with pytest.raises(UsageError, match="--resume needs the folder"):
        run_suite(other, None, "smoke", True, progress=False)
    with pytest.raises(UsageError, match="cannot name a run"):
        run_suite(other, tmp_path / "a b", "smoke", progress=False)


def test_wrong_use_leaves_nothing_behind(tmp_path):
    with pytest.raises(UsageError):
        run_suite("quik", tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_said_without_a_visit_and_made_up_for_later(race, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(registry, "missing_packages", lambda packages: ["flax"])
        patch.setattr(runner, "Worker", None)  # no process may be started
        folder = race()
    records = measured(folder)
    assert {r["status"] for r in records} == {"missing"}
    wanted = f"flax not installed: {registry.how_to_install('jax', 'gymnasium')}"
    assert {r["error"] for r in records} == {wanted}
    race(resume=True)
    assert {r["status"] for r in measured(folder)} == {"missing", "ok", "crash"}


def test_a_plan_made_in_code_is_run(tmp_path):
    plan = manager.suites.load(fakes.suite(tmp_path, "fine"), "smoke", 7)
    folder = manager.run_plan(plan, tmp_path / "out", subject=SUBJECT, progress=False)
    assert len(keys(folder)) == 4
    assert {r["status"] for r in measured(folder)} == {"ok"}
    assert not [r for r in store.read_records(folder) if r["kind"] == "certificate"]
    assert store.read_suite(folder)["seed"] == 7
    with pytest.raises(UsageError, match="holds results already"):
        manager.run_plan(plan, tmp_path / "out", subject=SUBJECT, progress=False)


def test_a_run_that_had_only_begun_can_go_on(race, tmp_path):
    plan = manager.suites.load(fakes.suite(tmp_path, "fine", "exits"), "smoke", 0)
    for folder in (tmp_path / "out", tmp_path / "other"):
        folder.mkdir()
        (folder / store.RECORDS).touch()  # nothing is lost with it
        manager._begin(plan, folder, "")
    (tmp_path / "out" / store.RECORDS).unlink()  # killed before the file was made
    assert len(keys(race(resume=True))) == 8


def test_cold_cells_say_what_their_cache_held(tmp_path, monkeypatch):
    suite = fakes.suite(tmp_path, "fine")
    plan = manager.suites.load(suite, "smoke", 0)
    plan = replace(plan, cells=tuple(replace(c, cache="cold") for c in plan.cells))
    take = runner.Worker._accept

    def leave(self, *result):
        (self.cache / "kernel").touch()
        take(self, *result)

    monkeypatch.setattr(runner.Worker, "_accept", leave)
    folder = manager.run_plan(plan, tmp_path / "out", subject=SUBJECT, progress=False)
    flags = [r["flags"].get("cache_not_cold") for r in measured(folder)]
    assert flags == [None, 1, None, 1]  # of the two probes that share a process, the second


def test_the_manager_imports_no_framework(tmp_path):
    code = f"""
import sys
from pathlib import Path
from tiebreak.bench.manager.manager import run_suite
run_suite({fakes.suite(tmp_path, "fine")!r}, Path({str(tmp_path / "out")!r}), "smoke",
          progress=False, subject={SUBJECT!r})
from tiebreak.core.import_guard import GUARDED
loaded = sorted((GUARDED | {{"gymnasium", "gymnax", "mujoco"}}) & set(sys.modules))
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
