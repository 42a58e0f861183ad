"""Workers that fail in every way: the reason is recorded, others go on, nothing survives."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from bench import fakes

from tiebreak.bench.manager import worker_process
from tiebreak.bench.manager.manager import run_suite
from tiebreak.bench.manager.store import read_records
from tiebreak.bench.manager.worker_env import worker_environment
from tiebreak.bench.suite.plan import Cell, Job

SUBJECT = "bench.fakes:make_subject"


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", fakes.python_path())


def race(folder, *labels, **options):
    suite = fakes.suite(folder, *labels, **options)
    return run_suite(suite, folder / "out", "smoke", progress=False, subject=SUBJECT)


def visits(folder):
    return [r for r in read_records(folder) if r["kind"] == "visit"]


FAULTS = {
    "raises": ("failed", "ValueError: this row raises"),
    "no-device": ("missing", "torch sees no device 'gpu' here"),
    "wrong": ("failed", "updates differ by"),
    "nan": ("failed", "not finite: loss"),
    "recompiles": ("failed", "Give every call the same shapes"),
    "other-threads": ("failed", "settings read back: threads"),
    "exits": ("crash", "ended with status 3 and no result: last words"),
    "segfaults": ("crash", "ended by SIGSEGV"),
    "floods": ("crash", "ended with status 4"),
    "floods-results": ("crash", "sent more than"),
    "garbage": ("crash", "sent something that is no result"),
    "half": ("crash", "breaks off in the middle"),
    "not-finite": ("crash", "not finite"),
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """One run of every fault, and a row that does its work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", fakes.python_path())
        return race(tmp_path_factory.mktemp("faults"), "fine", "raises-once", *FAULTS)


FAILING = {"recompiled", "work_mismatch", "parity_mismatch", "nan", "still_running"}
"""What a machine that others use flags as little as a quiet one."""


def by_label(records):
    out = {}
    for record in records:
        out.setdefault(record["cell"]["label"], []).append(record)
    return out


@pytest.mark.parametrize("label", FAULTS)
def test_a_fault_is_recorded_with_its_reason(faulty, label):
    records = by_label(visits(faulty))[label]
    status, reason = FAULTS[label]
    assert len(records) == 4  # two probes, two blocks
    for record in records:
        assert record["status"] == status
        assert reason in record["error"]
        assert "\n" not in record["error"]
        if label in ("wrong", "nan", "other-threads"):
            assert record["samples_s"], "they show what went wrong"
        assert record["value_s"] is None


def test_the_other_rows_are_complete(faulty):
    records = by_label(visits(faulty))["fine"]
    assert [r["status"] for r in records] == ["ok"] * 4
    assert all(r["value_s"] > 0 and len(r["samples_s"]) >= 3 for r in records)


def test_one_probe_that_raises_leaves_the_others_of_its_visit(faulty):
    records = by_label(visits(faulty))["raises-once"]
    assert [r["status"] for r in records] == ["failed", "ok"] * 2


def test_work_mismatch_recompilation_and_nan_are_flagged_with_values(faulty):
    records = by_label(visits(faulty))
    assert all(r["flags"]["recompiled"] > 0 for r in records["recompiles"])
    assert not any(FAILING & set(r["flags"]) for r in records["fine"])
    assert all(
        r["flags"]["work_mismatch"] == r["work"]["calls"] for r in records["wrong"]
    )  # one too many a call
    assert all(r["flags"]["nan"] == 1 and r["work"]["loss"] is None for r in records["nan"])


def test_settings_that_differ_from_what_was_set_invalidate(faulty):
    for record in by_label(visits(faulty))["other-threads"]:
        threads = record["settings"]["threads"]
        assert record["flags"]["parity_mismatch"] == f"threads {threads}"
        assert f"set were: threads {threads - 1}" in record["error"]


def test_every_phase_is_timed_apart(faulty):
    phases = {"import", "build", "first_call", "warmup", "steady", "memory", "proof"}
    for record in by_label(visits(faulty))["fine"]:
        assert set(record["phases_s"]) == phases
        assert record["settings"]["affinity"] == sorted(os.sched_getaffinity(0))
        assert record["work"]["calls"] > record["warmup_calls"] + 3
        first = record["block"] == 0  # one series tells
        assert len(record["memory"]["series_bytes"]) == (50 if first else 0)


def test_output_is_kept_and_capped(faulty):
    logs = list((faulty / "logs").iterdir())
    assert any(b"last words" in log.read_bytes() for log in logs)
    assert max(log.stat().st_size for log in logs) == worker_process.LOG_BYTES


def test_the_size_of_a_sample_is_frozen_after_the_first_visit(faulty):
    calls = {}
    for record in by_label(visits(faulty))["fine"]:
        calls.setdefault(record["cell_id"], set()).add(record["calls_per_sample"])
    assert len(calls) == 2
    assert all(len(n) == 1 for n in calls.values())


def test_what_hangs_is_ended_with_its_children(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_process, "GRACE_S", 0.3)
    folder = race(tmp_path, "leaves-a-child", "fine", probes=["update"], timeout_s=2)
    records = by_label(visits(folder))
    assert {r["status"] for r in records["fine"]} == {"ok"}
    for record in records["leaves-a-child"]:
        assert record["status"] == "timeout"
        assert record["error"] == "no result within 2 s"
        assert record["flags"]["timeout"] >= 2
    logs = "".join(log.read_text() for log in (folder / "logs").iterdir())
    children = re.findall(r"child (\d+)", logs)
    assert len(children) == 2
    assert not any(_runs(int(child)) for child in children)


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


def test_workers_see_an_allow_list_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "abc")
    monkeypatch.setenv("XLA_FLAGS", "--slow")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/tmp")  # first calls are measured
    cell = Cell("ppo", "torch", "eager", "gymnasium/CartPole-v1", "host", "update")
    job = Job((cell,), threads=2, hash_seed=5)
    env = worker_environment(job, tmp_path, tmp_path / "cache")
    assert not {"SECRET_TOKEN", "XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR"} & set(env)
    assert env["OMP_NUM_THREADS"] == env["TF_NUM_INTRAOP_THREADS"] == "2"
    assert env["PYTHONHASHSEED"] == "5"
    assert env["TORCHINDUCTOR_CACHE_DIR"].startswith(str(tmp_path / "cache"))
    assert os.stat(env["TMPDIR"]).st_mode & 0o777 == 0o700
    assert all(os.path.isabs(entry) for entry in env["PYTHONPATH"].split(os.pathsep))
