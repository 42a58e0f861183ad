"""What a worker may do to its manager: every way is survived, ended, and put into words."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench import scripted
from bench.scripted import Scripted

from tiebreak.bench.manager import reaper, worker_process
from tiebreak.bench.manager.kernel_clock import compare_clocks
from tiebreak.bench.manager.reaper import Orphans, children
from tiebreak.bench.manager.worker_process import Worker
from tiebreak.bench.record import check_result, empty_result


@pytest.fixture
def visit(tmp_path):
    """Run code in the place of a worker: (worker, its status and reason, its results)."""

    def run(code, *cells, timeout_s=20.0):
        ((worker, results),) = scripted.run(tmp_path, (code, *cells), timeout_s=timeout_s)
        return worker, worker.outcome, results

    return run


def test_the_second_clock_is_set_beside_the_workers(visit):
    code = 'event("start"); time.sleep(0.3); event("end"); result(steady=100.0)'
    _, ending, results = visit(code)
    assert ending == ("ok", "")
    assert results["a"]["parent_steady_s"] >= 0.3
    assert results["a"]["flags"]["clock_mismatch"] < -50


@pytest.mark.parametrize(
    ("parent_s", "worker_s", "flagged"),
    [(10.0, 10.0, 0), (10.104, 10.0, 0), (10.106, 10.0, 1), (9.894, 10.0, 1), (0.104, 0.1, 0)],
)
def test_clocks_may_differ_by_one_percent_and_five_milliseconds(parent_s, worker_s, flagged):
    measured = {**empty_result("ok", ""), "phases_s": {"steady": worker_s}}
    result = compare_clocks(measured, parent_s)
    assert result["parent_steady_s"] == parent_s
    assert len(result["flags"]) == flagged
    assert measured["flags"] == {}


def test_a_parent_that_has_to_wait_is_not_late(visit, monkeypatch):
    """The kernel stamps what is told when it is told, whenever the parent comes to read it."""
    read = worker_process.KernelClock.read

    def read_late(self):
        time.sleep(1.0)
        return read(self)

    monkeypatch.setattr(worker_process.KernelClock, "read", read_late)
    _, _, results = visit('event("start"); time.sleep(0.1); event("end"); result(steady=0.1)')
    assert 0.1 <= results["a"]["parent_steady_s"] < 1.0


@pytest.mark.parametrize("messages", [0, 1, 200])
def test_reading_ends_when_nothing_is_left(visit, monkeypatch, messages):
    """The socket of a worker that has ended is read until it is empty, not 64 times."""
    read, reads = worker_process.KernelClock.read, []

    def count_and_read(self):
        reads.append(read(self))
        return reads[-1]

    monkeypatch.setattr(worker_process.KernelClock, "read", count_and_read)
    visit(f'for _ in range({messages}): event("start"); event("end")\nresult()')
    assert len(reads) <= 4 + messages * 2  # at worst one reading for each message
    assert reads[-1] == ([], False)


def test_what_is_no_event_is_let_be(visit):
    code = 'tell("{"); tell("[]"); tell("1"); tell("{}"); event("start"); event("end"); result()'
    worker, ending, results = visit(code)
    assert ending == ("ok", "")
    assert worker.fault == ""
    assert results["a"]["parent_steady_s"] >= 0.0


def test_what_has_no_events_has_no_second_clock(visit):
    _, _, results = visit('event("start"); result()')
    assert "parent_steady_s" not in results["a"]
    assert results["a"]["flags"] == {}


def test_a_result_sent_twice_counts_once_and_says_so(visit):
    _, ending, results = visit('result(value_s=1.0); result(value_s=2.0); print("done")')
    assert ending == ("ok", "")
    assert results["a"]["value_s"] == 1.0
    assert re.search(r"sent the result of cell a twice", results["a"]["fault"])


def test_a_fault_stands_in_the_next_record_and_in_no_other(visit):
    code = 'result("a"); result("a"); result("b"); result("c")'
    _, _, results = visit(code, "a", "b", "c")
    assert [("fault" in results[cell]) for cell in "abc"] == [False, True, False]


@pytest.mark.parametrize(
    "message",
    [
        "[1]", "3", '"a"', "{}", '{"cell_id": {}, "result": {}}', '{"cell_id": "a"}',
        '{"cell_id": "a", "result": []}', '{"cell_id": "z", "result": {}}', "[" * 100_000,
        '{"cell_id": "a", "result": {"status": "ok", "flags": {}, "samples_s": [1]}}',
    ],
)  # fmt: skip
def test_what_is_no_result_is_blamed_and_the_result_still_taken(visit, message):
    _, ending, results = visit(
        f"os.write(int(sys.argv[1]), {message!r}.encode() + b'\\n')\nresult()"
    )
    assert ending == ("ok", "")
    assert results["a"]["status"] == "ok"
    assert results["a"]["fault"]


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        ("raise MemoryError", "oom", "MemoryError"),
        ("print('what():  std::bad_alloc'); os.abort()", "oom", "ended by SIGABRT: .*bad_alloc"),
        ("print('RESOURCE_EXHAUSTED: 3 bytes'); os._exit(1)", "oom", "status 1 .*EXHAUSTED"),
        ("print('bye'); os._exit(3)", "crash", "ended with status 3 and no result: bye"),
        ("os.kill(os.getpid(), 11)", "crash", "ended by SIGSEGV"),
    ],
)
def test_an_ending_is_told_by_what_was_said(visit, code, status, reason):
    _, ending, results = visit(code)
    assert ending[0] == status
    assert re.search(reason, ending[1])
    assert not results


def test_a_failure_for_want_of_memory_is_called_so(visit):
    _, _, results = visit('result(status="failed", error="ResourceExhaustedError: OOM")')
    assert results["a"]["status"] == "oom"
    assert results["a"]["flags"]["oom"] > 0


@pytest.mark.parametrize(("after", "status"), [(4, "oom"), (3, "crash")])
def test_a_kill_is_the_kernels_where_it_has_counted_one(visit, monkeypatch, after, status):
    counts = iter([3, after])
    monkeypatch.setattr(worker_process.oom, "kills", lambda: next(counts))
    assert visit("os.kill(os.getpid(), signal.SIGKILL)")[1][0] == status


def test_kills_are_counted_where_the_kernel_counts_them(tmp_path):
    files = {
        "proc/vmstat": "pgfault 7\noom_kill 2\n",
        "proc/self/cgroup": "4:memory:/box\n0::/own\n",
        "sys/fs/cgroup/memory/box/memory.oom_control": "under_oom 0\noom_kill 3\n",
        "sys/fs/cgroup/own/memory.events": "oom 9\noom_kill 5\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert worker_process.oom.kills(tmp_path) == 10
    assert worker_process.oom.kills(tmp_path / "nowhere") == 0


SLEEPER = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']"
LEAVERS = {
    "in its group": f"p = {SLEEPER}); print('left', p.pid)",
    "in a session of its own": f"p = {SLEEPER}, start_new_session=True); print('left', p.pid)",
    "as a daemon of a daemon": f"""
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        p = {SLEEPER}, start_new_session=True)
        print('left', os.getpid(), p.pid, flush=True)
        time.sleep(600)
    os._exit(0)
os.wait(); time.sleep(0.5)""",
}


@pytest.mark.skipif(not reaper.LINUX, reason="orphans are found by /proc")
@pytest.mark.parametrize("ending", ["result()", "os._exit(1)", "time.sleep(600)"])
@pytest.mark.parametrize("way", LEAVERS)
def test_no_process_survives_a_visit(visit, way, ending):
    worker, _, _ = visit(f"{LEAVERS[way]}\nsys.stdout.flush()\n{ending}", timeout_s=2.0)
    left = [int(n) for n in re.findall(rb"\d+", worker.log.partition(b"left")[2].split(b"\n")[0])]
    assert left
    assert not [pid for pid in left if Path(f"/proc/{pid}").exists()]


@pytest.mark.skipif(not reaper.LINUX, reason="orphans are found by /proc")
def test_children_of_ours_are_let_be():
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    before = subprocess.Popen(command, start_new_session=True)
    with Orphans() as orphans:
        inside = subprocess.Popen(command)  # another thread's, say
        orphans.end()
    try:
        assert before.poll() is inside.poll() is None
        assert {before.pid, inside.pid} <= {child.pid for child in children()}
    finally:
        for own in (before, inside):
            own.kill()
            own.wait()
    assert reaper._subreaper() == 0


def test_an_end_is_seen_where_the_system_cannot_wait_for_it_in_passing(monkeypatch):
    """macOS has os.waitid since Python 3.13."""
    monkeypatch.delattr(os, "waitid")
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    assert not reaper.has_ended(process)
    process.kill()
    while not reaper.has_ended(process):
        time.sleep(0.01)
    assert process.wait() == -signal.SIGKILL  # its status was left to be read
    assert reaper.has_ended(process)


def test_a_worker_that_will_not_end_after_its_results_is_ended(visit, monkeypatch):
    monkeypatch.setattr(worker_process, "END_S", 0.2)
    worker, ending, results = visit("result(); time.sleep(600)", timeout_s=500)
    assert ending == ("ok", "")
    assert results["a"]["status"] == "ok"
    assert worker.active_s < 100


def test_an_interrupt_loses_no_result_that_has_arrived(visit, monkeypatch):
    ended, results, interrupts = worker_process.has_ended, {}, [KeyboardInterrupt]
    monkeypatch.setattr(worker_process, "GRACE_S", 0.1)

    def take(self, data, take=Worker._take_results):
        take(self, data)
        if self._last:
            monkeypatch.setattr(worker_process, "has_ended", interrupted)
            self.on_result = results.__setitem__

    def interrupted(running):
        if interrupts:
            raise interrupts.pop()
        return ended(running)

    monkeypatch.setattr(Worker, "_take_results", take)
    with pytest.raises(KeyboardInterrupt):
        visit("result(); time.sleep(600)")
    assert results["a"]["status"] == "ok"


def test_a_worker_that_cannot_be_started_is_a_crash(visit, monkeypatch):
    def start(self, fd):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(Scripted, "_start", start)
    before = len(os.listdir("/proc/self/fd"))
    ending = visit("")[1]
    assert ending == ("crash", "could not be started: Resource temporarily unavailable")
    assert len(os.listdir("/proc/self/fd")) == before


GOOD = {
    **empty_result("ok", ""), "samples_s": [1.0, 2], "value_s": 1.5, "units_per_sample": 1,
    "calls_per_sample": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("unit", 3, "unit is 3, not a text"),
        ("flags", [], "flags is [], not a table"),
        ("phases_s", {"steady": None}, "phases_s.steady is None"),
        ("memory", {"rss_peak_bytes": "x"}, "memory.rss_peak_bytes is 'x'"),
        ("memory", {"live_bytes": -1}, "memory.live_bytes is -1"),
        ("work", {"calls": 0.5}, "work.calls is 0.5"),
        ("work", {"loss": 1e300}, "work.loss is 1e+300"),
        ("settings", {"device": "\x1b[2J"}, "control characters"),
        ("status", "oom", "has status 'oom'"),
        ("samples_s", [], "no list of positive samples"),
        ("samples_s", [1.0, 0], "no list of positive samples"),
        ("samples_s", [1.0, True], "samples_s.1 is True, not a number"),
        ("value_s", None, "value_s is not a positive number"),
        ("value_s", float("nan"), "not finite"),
    ],
)
def test_a_result_that_could_not_be_read_back_is_refused(field, value, problem):
    assert check_result(GOOD) == ""
    assert problem in check_result({**GOOD, field: value})
