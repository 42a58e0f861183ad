"""Ways in which a run ends too early: nothing finished is lost, and the rest is made up for."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import kills
import pytest
from bench import fakes

from tiebreak.bench.manager import manager, runner, store
from tiebreak.bench.manager.manager import Interrupted, run_suite
from tiebreak.core.errors import UsageError

SUBJECT = "bench.fakes:make_subject"
LONG_S = 120
"""More than anything here takes, on however busy a machine."""


@pytest.fixture(autouse=True)
def _importable(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", fakes.python_path())
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def start(suite, folder, resume=False, before="", **options):
    """A manager in a process of its own, with the signals of the command line."""
    call = f"run_suite({suite!r}, Path({str(folder)!r}), 'smoke', {resume}, subject={SUBJECT!r})"
    code = (
        "import sys; from pathlib import Path\n"
        "from tiebreak.bench.manager.manager import run_suite\n"
        "from tiebreak.commands.signals import ending_signals\n"
        "from tiebreak.core.errors import UsageError\n"
        f"{before}\n"
        "with ending_signals():\n"
        f"    try: {call}\n"
        "    except UsageError as error: sys.exit(f'refused: {error}')"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stderr=subprocess.PIPE,
        preexec_fn=kills.hear_signals,
        **options,
    )


def keys(folder):
    """(block, cell) of every visit, read without the store's help."""
    out = []
    for line in (folder / store.RECORDS).read_bytes().split(b"\n")[:-1]:
        record = json.loads(line)
        if record["kind"] == "visit":
            out.append((record["block"], record["cell_id"]))
    return out


def test_an_interrupt_keeps_what_is_finished_and_says_how_to_go_on(tmp_path, monkeypatch):
    suite, calls, start = fakes.suite(tmp_path, "fine", "exits"), [], runner.Worker.start

    def interrupted(self):
        calls.append(self)
        if len(calls) == 4:  # the second of the second block
            raise KeyboardInterrupt
        return start(self)

    monkeypatch.setattr(runner.Worker, "start", interrupted)
    with pytest.raises(Interrupted, match=r"4 measurements kept.*--out .*out --resume"):
        run_suite(suite, tmp_path / "out", "smoke", progress=False, subject=SUBJECT)
    assert len(keys(tmp_path / "out")) == 4
    run_suite(suite, tmp_path / "out", "smoke", True, progress=False, subject=SUBJECT)
    assert len(keys(tmp_path / "out")) == len(set(keys(tmp_path / "out"))) == 8


def test_ctrl_c_ends_the_worker_too(tmp_path):
    process = start(fakes.suite(tmp_path, "hangs"), tmp_path / "out", start_new_session=True)
    worker = _hanging_child(process.pid)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=LONG_S)
    assert b"go on with: tiebreak run" in said
    assert not Path(f"/proc/{worker}").exists()


def test_a_killed_manager_leaves_no_worker(tmp_path):
    process = start(fakes.suite(tmp_path, "hangs"), tmp_path / "out")
    worker = _hanging_child(process.pid)
    process.kill()
    process.communicate()
    for _ in range(100):
        if not _alive(worker):
            return
        threading.Event().wait(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlived its manager")


def _hanging_child(pid):
    """The worker of this manager, once it ignores SIGTERM: from then on it hangs."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    for _ in range(10 * LONG_S):
        for child in children.read_text().split():
            try:
                status = Path(f"/proc/{child}/status").read_text()
            except OSError:  # git's, or a compiler's: over
                continue
            ignored = status.partition("SigIgn:")[2].split()
            if ignored and int(ignored[0], 16) & 1 << (signal.SIGTERM - 1):
                return int(child)
        threading.Event().wait(0.1)
    raise AssertionError("no worker came up")


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_kills_at_any_instant_cost_the_visit_in_flight_at_most(tmp_path):
    """Ended again and again at random instants, resumed each time, until it gets to the end."""
    suite, folder = fakes.suite(tmp_path, "fine", "exits", probes=["update"]), tmp_path / "out"
    rng, kept, ended = random.Random(0), [], 0
    while True:
        process = start(suite, folder, (folder / store.SUITE).exists())
        try:
            # Later and later: on a fast machine the whole run takes less than three seconds.
            instant = rng.uniform(0.2, 0.6) * (ended + 1)
            _, said = process.communicate(timeout=instant if ended < 10 else LONG_S)
        except subprocess.TimeoutExpired:
            number = kills.end(process, rng)
            _, said = process.communicate()
            ended += 1
            kills.assert_nothing_runs(str(tmp_path))
            if number != signal.SIGKILL:
                assert not list(tmp_path.glob("tiebreak-*")), said
        else:
            assert process.returncode == 0, said
            break
        if (folder / store.RECORDS).exists():
            assert keys(folder)[: len(kept)] == kept
            kept = keys(folder)
    assert len(keys(folder)) == len(set(keys(folder))) == 4
    assert not store.read_log(folder).corrupt
    assert ended
    assert not list(tmp_path.glob("tiebreak-*"))  # what killed managers left is gone, too


def test_two_managers_never_measure_into_one_folder(tmp_path):
    suite, folder = fakes.suite(tmp_path, "hangs", "fine"), tmp_path / "out"
    first = start(suite, folder)
    try:
        _hanging_child(first.pid)
        second = start(suite, folder, resume=True)
        _, said = second.communicate(timeout=LONG_S)
        assert b"refused: another process is measuring into" in said
        writer = store.Store(folder)  # records may be added all the same
        writer.append({"kind": "canary", "number": 1})
        writer.close()
    finally:
        first.kill()
        first.communicate()
    with store.hold(folder):  # the lock has died with its holder
        pass


def test_a_full_disk_ends_the_run_in_one_line(tmp_path, monkeypatch):
    suite, folder = fakes.suite(tmp_path, "fine", "exits"), tmp_path / "out"
    append, writes = store.Store.append, []

    def full(self, record):
        writes.append(record["kind"])
        if writes.count("visit") == 3:
            raise OSError(28, "No space left on device", str(folder / store.RECORDS))
        append(self, record)

    monkeypatch.setattr(store.Store, "append", full)
    with pytest.raises(
        UsageError, match=r"had to stop: No space left.*records\.jsonl.*2 meas.*out"
    ):
        run_suite(suite, folder, "smoke", progress=False, subject=SUBJECT)
    monkeypatch.undo()
    monkeypatch.setenv("PYTHONPATH", fakes.python_path())
    run_suite(suite, folder, "smoke", True, progress=False, subject=SUBJECT)
    assert len(keys(folder)) == len(set(keys(folder))) == 8


def test_a_log_that_does_not_fit_is_named_and_leaves_no_half(tmp_path, monkeypatch):
    suite, folder = fakes.suite(tmp_path, "exits"), tmp_path / "out"
    sync = os.fsync

    def full(handle):
        if "/logs/" in os.readlink(f"/proc/self/fd/{handle}"):
            raise OSError(28, "No space left on device")
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match=r"No space left.*logs/block0.*\.log\); \d meas"):
        run_suite(suite, folder, "smoke", progress=False, subject=SUBJECT)
    assert list((folder / "logs").iterdir()) == []
    monkeypatch.setattr(os, "fsync", sync)
    run_suite(suite, folder, "smoke", True, progress=False, subject=SUBJECT)
    assert len(keys(folder)) == len(set(keys(folder)))


def test_a_limit_on_the_size_of_files_leaves_whole_records(tmp_path):
    """The kernel itself refuses: RLIMIT_FSIZE, as a full disk does."""
    suite, folder = fakes.suite(tmp_path, "fine"), tmp_path / "out"
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))"
    process = start(suite, folder, before=limit)
    _, said = process.communicate(timeout=LONG_S)
    assert b"refused: the run had to stop" in said, said
    log = store.read_log(folder)
    assert log.records
    assert not log.corrupt
    assert (folder / store.RECORDS).read_bytes().endswith(b"\n")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    suite, folder = fakes.suite(tmp_path, "fine"), tmp_path / "out"
    run_suite(suite, folder, "smoke", progress=False, subject=SUBJECT)
    before, opens = (folder / store.RECORDS).read_bytes(), os.open

    def read_only(path, flags, *rest, **options):
        if flags & (os.O_WRONLY | os.O_RDWR) and str(path).startswith(str(folder)):
            raise OSError(30, "Read-only file system", str(path))
        return opens(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(UsageError, match=r"cannot write results to .*out: Read-only file system"):
        run_suite(suite, folder, "smoke", True, progress=False, subject=SUBJECT)
    with pytest.raises(UsageError, match=r"cannot write results to .*: Read-only file system"):
        run_suite(suite, folder / "inside", "smoke", progress=False, subject=SUBJECT)
    assert len(store.read_records(folder)) > 4  # reading needs no writing
    assert (folder / store.RECORDS).read_bytes() == before


def test_an_error_that_is_no_disks_is_not_hidden(tmp_path, monkeypatch):
    def broken(self, *args):
        raise FileNotFoundError(2, "No such file", "worker.py")

    monkeypatch.setattr(runner.Runner, "execute", broken)
    with pytest.raises(FileNotFoundError):
        run_suite(fakes.suite(tmp_path, "fine"), tmp_path / "out", "smoke", progress=False)
    assert manager.DISK_ERRORS.isdisjoint({2})
    shutil.rmtree(tmp_path / "out")
