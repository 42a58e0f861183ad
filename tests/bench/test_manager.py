"""A run: resumed exactly, interrupted cleanly, in time, and without a framework in its process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from bench import fakes

from tiebreak import registry
from tiebreak.bench import manager, store, visits
from tiebreak.bench.manager import Interrupted, run_suite
from tiebreak.core.errors import UsageError
from tiebreak.core.files import write_json

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
        patch.setattr(registry, "missing", lambda packages: ["flax"])
        patch.setattr(visits, "Worker", None)  # no process may be started
        folder = race()
    records = measured(folder)
    assert {r["status"] for r in records} == {"missing"}
    wanted = f"flax not installed: {registry.install_command('jax', 'gymnasium')}"
    assert {r["error"] for r in records} == {wanted}
    race(resume=True)
    assert {r["status"] for r in measured(folder)} == {"missing", "ok", "crash"}


def test_an_interrupt_keeps_what_is_finished_and_says_how_to_go_on(race, monkeypatch, tmp_path):
    run, calls = visits.Worker.run, []

    def interrupted(self, timeout_s):
        calls.append(self)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run(self, timeout_s)

    monkeypatch.setattr(visits.Worker, "run", interrupted)
    with pytest.raises(Interrupted, match=r"2 measurements are kept.*--out .*out --resume"):
        race()
    assert len(measured(tmp_path / "out")) == 2
    race(resume=True)
    assert len(measured(tmp_path / "out")) == 8


def test_ctrl_c_ends_the_worker_too(tmp_path):
    suite = fakes.suite(tmp_path, "hangs")
    code = (
        "import sys; from pathlib import Path; from tiebreak.bench.manager import run_suite\n"
        f"run_suite({suite!r}, Path({str(tmp_path / 'out')!r}), 'smoke', subject={SUBJECT!r})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, start_new_session=True
    )
    worker = _wait_for_child(process.pid)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert b"go on with: tiebreak run" in said
    assert not Path(f"/proc/{worker}").exists()


def test_a_killed_manager_leaves_no_worker(tmp_path):
    suite = fakes.suite(tmp_path, "hangs")
    code = (
        "import sys; from pathlib import Path; from tiebreak.bench.manager import run_suite\n"
        f"run_suite({suite!r}, Path({str(tmp_path / 'out')!r}), 'smoke', False, False,"
        f" subject={SUBJECT!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    worker = _wait_for_child(process.pid)
    process.kill()
    process.wait()
    for _ in range(100):
        if not _alive(worker):
            return
        os.sched_yield()
        subprocess.run(["sleep", "0.1"], check=True)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlived its manager")


def _wait_for_child(pid):
    """The worker of this manager, once it has said what it is (its job is read)."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    for _ in range(300):
        for child in children.read_text().split():
            status = Path(f"/proc/{child}/status")
            ignored = status.read_text().partition("SigIgn:")[2].split()[0]
            if int(ignored, 16) & 1 << (signal.SIGTERM - 1):  # it has begun to hang
                return int(child)
        subprocess.run(["sleep", "0.1"], check=True)
    raise AssertionError("no worker came up")


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("budget_s", "limit_s", "blocks"), [(None, None, 5), (100, 100, 3), (65, 100, 2), (40, 40, 1)]
)
def test_no_block_starts_that_would_end_too_late(tmp_path, monkeypatch, budget_s, limit_s, blocks):
    """Each visit takes 15 simulated seconds, a block two of them."""
    from dataclasses import replace

    suite = fakes.suite(tmp_path, "fine", "other")
    plan = manager.suites.load(suite, "smoke", 0)
    settings = replace(plan.settings, blocks=5, least_blocks=2, budget_s=budget_s, limit_s=limit_s)
    run = manager.Run(_new(replace(plan, settings=settings), tmp_path), tmp_path, "", False)
    now = [0.0]
    monkeypatch.setattr(run.timer, "elapsed_s", lambda: now[0])

    def visit(one):
        now[0] += 15
        run.visitor.wall_s[run.visitor._key(one)] = 15.0
        run.visitor.done |= {(one.block, cell.id) for cell in one.cells}
        return []

    monkeypatch.setattr(run.visitor, "visit", visit)
    run.everything()
    run.close()
    assert {block for block, _ in run.visitor.done} == set(range(blocks))


def _new(plan, folder):
    store.Store(folder).close()
    write_json(folder / store.SUITE, {"run_id": "1", "cells": []})
    return plan


def test_the_manager_imports_no_framework(tmp_path):
    code = f"""
import sys
from pathlib import Path
from tiebreak.bench.manager import run_suite
run_suite({fakes.suite(tmp_path, "fine")!r}, Path({str(tmp_path / "out")!r}), "smoke",
          progress=False, subject={SUBJECT!r})
from tiebreak.core.fence import GUARDED
loaded = sorted((GUARDED | {{"gymnasium", "gymnax", "mujoco"}}) & set(sys.modules))
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
