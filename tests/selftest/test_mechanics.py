"""The self-test's mechanics, at the smallest size that can fail: their rows, and their judges."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tiebreak.bench.manager.store import RECORDS
from tiebreak.bench.record import seal
from tiebreak.selftest.base import Context
from tiebreak.selftest.mechanics import (
    concurrent_writers,
    corrupt_records,
    faults,
    killed_manager,
    leaks,
    original_run,
    process_tracking,
    traps,
    unwritable,
)

UNTRACKABLE = process_tracking.why_untrackable()
pytestmark = pytest.mark.skipif(bool(UNTRACKABLE), reason=UNTRACKABLE)


@pytest.fixture
def ctx(tmp_path):
    return Context(tmp_path, "smoke", 3, lambda text: None)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """One real run, whose copies are damaged."""
    return original_run.OriginalRun(tmp_path_factory.mktemp("damage") / "original", 3)


def wrong(cases):
    return [why for why in cases if why]


def test_faults_are_recorded_and_nothing_survives(ctx):
    labels = ("is out of memory", "leaves a child", "leaves a daemon", "sends twice")
    outcome = faults.check(ctx.folder, labels, 1, 3)
    assert outcome.passed, outcome
    assert outcome.measured["others_complete"] == 2
    assert outcome.measured["visits"] == 6


RECORDED = {
    "status": "crash",
    "error": "ended by SIGSEGV",
    "flags": {"crash": 0.3},
    "value_s": None,
}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, ""),
        ({"status": "ok"}, "has status 'ok'"),
        ({"error": "ended with status 1"}, "says 'ended with status 1'"),
        ({"flags": {}}, "is not flagged 'crash'"),
    ],
)
def test_a_fault_with_another_record_is_seen(change, why):
    record = {**RECORDED, "cell": {"label": "segfaults"}, **change}
    assert faults.misrecorded(record).startswith(why)
    assert bool(faults.misrecorded(record)) == bool(why)


def test_a_marked_process_is_found_wherever_it_went_and_ended(tmp_path):
    code = (
        "import os; os.setsid(); os.chdir('/'); print(1, flush=True); import signal; signal.pause()"
    )
    with process_tracking.Marked(tmp_path) as marked:
        process = subprocess.Popen(
            [sys.executable, "-c", code], env=marked.environment(), stdout=subprocess.PIPE
        )
        assert process.stdout
        process.stdout.readline()
        assert set(marked.alive()) == {process.pid}
        assert set(marked.survivors(0.1)) == {process.pid}
    assert process.wait() == -signal.SIGKILL
    assert marked.alive() == {}
    assert not marked.folder.exists()


@pytest.mark.slow
def test_a_killed_manager_loses_nothing_that_was_finished(ctx):
    with killed_manager.Race(ctx.folder / "race", 5) as race:
        seconds = race.run(None)
        whole = race.judge()
        assert not any(whole[name] for name in killed_manager.ERRORS)
        assert race.sessions[0].after.keys() == race.planned() == set(race.sessions[0].started)
    with killed_manager.Race(ctx.folder / "killed", 6) as race:
        race.run(0.7 * seconds)
        race.run(None)
        judged = race.judge()
    assert not any(judged[name] for name in killed_manager.ERRORS), judged


def test_what_a_kill_may_not_do_is_seen(ctx):
    """The same folder, told otherwise: a visit was lost, done again, not done, left running."""
    with killed_manager.Race(ctx.folder / "race", 5) as race:
        race.run(None)
        [good] = race.sessions
    key, *others = good.after
    for name, session in {
        "lost": good._replace(after={**good.after, key: "another hash"}),
        "unstored": good._replace(after={k: good.after[k] for k in others}),
        "done again": good._replace(before={key: good.after[key]}),
        "not resumed": good._replace(started=good.started[1:]),
        "stuck": good._replace(code=1),
        "survivors": good._replace(survivors=["python"]),
    }.items():
        race.sessions = [session]
        assert [n for n in killed_manager.ERRORS if race.judge()[n]] == [name]
    records = race.out / RECORDS
    lines = records.read_bytes().splitlines(keepends=True)
    visit = next(line for line in lines if json.loads(line)["kind"] == "visit")
    race.sessions = [good]
    records.write_bytes(b"".join(line for line in lines if line != visit))
    assert {n for n in killed_manager.ERRORS if race.judge()[n]} == {"lost", "missing"}
    records.write_bytes(b"".join([*lines, visit, b"{}\n"]))
    assert {n for n in killed_manager.ERRORS if race.judge()[n]} == {"twice", "corrupt"}


def test_cut_flipped_newer_and_strange_lines(original):
    assert wrong(corrupt_records.cut(original, 100)) == []
    assert wrong(corrupt_records.flipped(original, 30, 3)) == []
    assert wrong(corrupt_records.newer(original)) == []
    assert wrong(corrupt_records.garbage(original)) == []


def test_a_run_that_lost_a_record_measures_that_visit_again(original):
    assert wrong(corrupt_records.resumed(original, 1, 3)) == []


@pytest.mark.slow
def test_a_full_disk_and_a_read_only_folder(original):
    assert wrong(unwritable.full(original)) == []
    cases = wrong(unwritable.read_only(original))
    assert all(why.startswith(unwritable.SKIPPED) for why in cases), cases


def test_a_record_that_was_never_written_is_seen(original):
    assert original.unknown_record(original.records) == ""
    forged = json.loads(seal({**original.records[0], "kind": "visit"}))
    assert "never written" in original.unknown_record([*original.records, forged])
    assert "never written" in original.unknown_record([*original.records, original.records[0]])
    assert "never written" in original.unknown_record([{**original.records[0], "at": "now"}])


def test_writers_lose_nothing(ctx):
    calm = concurrent_writers.undisturbed(ctx.folder / "calm", 2, 50)
    assert calm == {**dict.fromkeys(calm, 0), "written": 100, "found": 100}
    wild = concurrent_writers.disturbed(ctx.folder / "wild", 2, 1, 3)
    assert wild["found"] == wild["written"] > 0
    assert wild["killed"] == wild["torn_tails"] == wild["healed"] == 1
    assert not any(wild[k] for k in ("lost", "repeated", "altered", "unknown", "corrupt"))


def test_what_writers_may_not_do_is_seen(tmp_path):
    lines = [seal(concurrent_writers.record(0, n)) for n in range(4)]
    file = tmp_path / RECORDS
    file.write_bytes(b"".join([lines[0], lines[0], lines[1][:40] + b"\n", lines[3]]))
    judged = concurrent_writers._judge(tmp_path, {0: 3})
    assert judged == {
        "written": 3, "found": 1, "lost": 2, "repeated": 1, "altered": 0, "unknown": 1,
        "corrupt": 1,
    }  # fmt: skip
    file.write_bytes(lines[0] + seal({**concurrent_writers.record(0, 1), "payload": "0"}))
    assert concurrent_writers._judge(tmp_path, {0: 2})["altered"] == 1
    file.write_bytes(b"".join(lines[:2]))  # the second was stored, but not acknowledged any more
    assert concurrent_writers._judge(tmp_path, {0: 1})["unknown"] == 1
    assert concurrent_writers._judge(tmp_path, {0: 1}, killed=[0])["unknown"] == 0


@pytest.mark.slow
def test_traps_are_flagged_and_honest_work_is_not(ctx):
    outcome = traps.check(ctx, ["linen"], ["int is static", "ignores its inputs"], 1)
    assert outcome.passed, outcome
    assert outcome.measured["traps"] == 4
    assert outcome.measured["control"] == 3


def trapped(label, flags, value_s=None, **about):
    cell = {"framework": "linen", "label": label, "cache": "warm"}
    common = {"cell": cell, "flags": flags, "value_s": value_s, "status": "ok", "error": ""}
    return {**common, "samples_s": [], **about}


def test_traps_that_are_missed_and_false_alarms_are_seen():
    caught = trapped("shape grows", {"recompiled": 1})
    honest = trapped(traps.HONEST, {"contended": 0.1}, 1.0)
    waited = {"samples_s": [2.0, 3.0], "calls_per_sample": 2, "work": {"program_s": 1.0}}
    returned = trapped(traps.RETURNS, {}, 1.0, **waited)
    assert traps.judge([caught], [honest, returned]).passed
    assert not traps.judge([trapped("shape grows", {"work_mismatch": 1})], [honest]).passed
    assert not traps.judge([trapped("shape grows", {"recompiled": 1}, 1.0)], [honest]).passed
    assert not traps.judge([caught], [trapped(traps.HONEST, {"work_mismatch": 1}, 1.0)]).passed
    assert not traps.judge([caught], [trapped(traps.HONEST, {}, status="crash")]).passed
    early = trapped(traps.RETURNS, {}, 1.0, **{**waited, "samples_s": [0.1, 2.0]})
    assert not traps.judge([caught], [honest, early]).passed
    seen = trapped(traps.HIDES, {"still_running": 1.0}, 1.0, **waited)
    assert not traps.judge([caught, seen], [honest]).passed  # it hid nothing
    missing = trapped("shape grows", {}, status="missing", error="jax not installed")
    assert traps.judge([missing], []).passed is None


@pytest.mark.slow
def test_a_leak_is_flagged_and_the_same_work_without_it_is_not(ctx):
    outcome = leaks.check(ctx, leaks.PLANTED[:1], leaks.CONTROL[:1], 1)
    assert outcome.passed, outcome
    slopes = outcome.measured["slope_bytes_per_call"]
    assert slopes["nnx rebuilds agents with a closure"] > leaks.ARRAY_BYTES


def test_leaks_that_are_missed_and_false_alarms_are_seen():
    series = {"series_bytes": [5, 25], "slope_bytes_per_call": 20.0}
    grows = trapped("leaks", {"memory_growing": 20}, 1.0, memory=series, block=0)
    quiet = trapped("clean", {}, 1.0, memory=series, block=0)
    planted = [("linen", "leaks")]
    assert leaks.judge([grows, quiet], planted).passed
    assert not leaks.judge([grows, quiet], [*planted, ("linen", "clean")]).passed
    assert not leaks.judge([grows, quiet], []).passed
    assert not leaks.judge([grows, {**quiet, "status": "failed"}], planted).passed
    assert leaks.judge([], planted).passed is None


def test_rows_leave_no_process_and_no_environment_behind(ctx):
    before = os.environ.get("PYTHONPATH")
    with process_tracking.Marked(ctx.folder) as marked, marked.mark_children():
        assert str(marked.folder) in os.environ["PYTHONPATH"]
    assert os.environ.get("PYTHONPATH") == before
    assert not list(Path(ctx.folder).iterdir())
