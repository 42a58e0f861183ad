"""Starts one worker, listens to it, and ends it with all that it started, whatever it does.

The worker is never trusted: its output is capped, its results are parsed as JSON and checked, its
time is limited, and all that it started is ended even when it says that it has finished.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tiebreak.bench import out_of_memory
from tiebreak.bench.clock import Timer
from tiebreak.bench.reaper import Orphans, end_group, has_ended
from tiebreak.bench.record import check_result, one_line
from tiebreak.bench.stamps import Stamps
from tiebreak.bench.variables import environment

JOB = "job.json"
"""What the worker is told, in its folder."""
LOG_BYTES = 256 * 1024
RESULT_BYTES = 4 * 1024 * 1024
GRACE_S = 3.0
"""Between asking a worker to end and ending it."""
END_S = 10.0
"""How long a worker may take to end that has sent all its results."""
CLOCKS = 0.01, 0.005
"""Share and seconds by which the second clock and a worker's may differ: twice and five times what
the self-test allows, as a worker that loses its CPU between telling and timing is honest."""

Result = dict[str, Any]


class Worker:
    """One visit's process. `run` blocks until it is over, and calls back for each good result.

    Each result is handed on the moment it arrives, but for the last: until the process has ended,
    which takes END_S at most, it may show that there is something to be said about it (`fault`).
    """

    def __init__(
        self,
        job: Mapping[str, Any],
        folder: Path,
        cache: Path,
        on_result: Callable[[str, Result], None],
    ):
        self.job, self.folder, self.cache, self.on_result = job, folder, cache, on_result
        self.waiting = {cell["id"] for cell in job["cells"]}
        self.fault = ""
        """The first thing that it sent and should not have, in one line."""
        self.log = b""
        self.wall_s = 0.0
        self.timer = Timer()
        self._last: tuple[str, Result] | None = None
        self._last_s = 0.0
        self._stamps = Stamps()
        self._pending, self._received, self._told = b"", 0, ""

    def run(self, timeout_s: float) -> tuple[str, str]:
        """(status, one-line reason) of the cells without a result: timeout, oom, crash; else ok."""
        self.timer, killed = Timer(), out_of_memory.kills()
        self._write_job()
        results, ours = os.pipe()
        with Orphans() as orphans:
            try:
                process = self._start(ours)
            except OSError as error:  # no memory, or too many processes
                os.close(results)
                self._stamps.close()
                status = "oom" if out_of_memory.said(str(error)) else "crash"
                return status, f"could not be started: {error.strerror}"
            finally:
                os.close(ours)
            self._stamps.started()
            try:
                in_time = self._listen(process, results, timeout_s)
            finally:  # also when the manager is interrupted
                alive = not has_ended(process)
                end_group(process, GRACE_S)
                orphans.end()
                self._close(process, results)
        if self.waiting and not in_time:
            return "timeout", f"no result within {timeout_s:g} s"
        if self.waiting:
            sigkill = not alive and process.returncode == -signal.SIGKILL
            by_kernel = sigkill and out_of_memory.kills() > killed
            return self._ending(process.returncode, by_kernel)
        return "ok", ""

    def _write_job(self) -> None:
        job = {**self.job, "manager_pid": os.getpid()}
        (self.folder / JOB).write_text(json.dumps(job), encoding="utf-8")

    def _start(self, result_fd: int) -> subprocess.Popen[bytes]:
        told = result_fd, self._stamps.fd
        return subprocess.Popen(
            [sys.executable, "-m", "tiebreak.bench.worker", JOB, *map(str, told)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=environment(self.job, self.folder, self.cache),
            pass_fds=told,
            start_new_session=True,
        )

    def _listen(self, process: subprocess.Popen[bytes], results: int, timeout_s: float) -> bool:
        """Read until the process has ended (True) or its time is up (False)."""
        assert process.stdout
        readers = {results: self._take, process.stdout.fileno(): self._keep}
        with selectors.DefaultSelector() as selector:
            for fd in readers:
                os.set_blocking(fd, False)
                selector.register(fd, selectors.EVENT_READ)
            while not has_ended(process):
                if self._is_late(timeout_s):
                    return False
                ready = [key.fd for key, _ in selector.select(0.1)]
                for fd in [fd for fd in ready if not self._read(fd, readers[fd])]:
                    selector.unregister(fd)  # closed at the other end
                if self._received > RESULT_BYTES:
                    return True
        for fd, reader in readers.items():
            left = 64  # bounded: a child left behind may go on writing
            while left and self._read(fd, reader):
                left -= 1
        return True

    def _is_late(self, timeout_s: float) -> bool:
        now = self.timer.elapsed_s()
        return now > timeout_s or (self._last is not None and now > self._last_s + END_S)

    def _close(self, process: subprocess.Popen[bytes], results: int) -> None:
        os.close(results)
        self._stamps.close()
        if process.stdout:
            process.stdout.close()
        self.wall_s = self.timer.elapsed_s()
        if self._last:
            self._hand_on(*self._last)

    def _read(self, fd: int, reader: Callable[[bytes], None]) -> bool:
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            return False
        reader(data)
        return bool(data)

    def _keep(self, data: bytes) -> None:
        self.log += data[: LOG_BYTES - len(self.log)]

    def _take(self, data: bytes) -> None:
        now = self.timer.elapsed_s()
        self._stamps.read()  # what was told before this result, so that never much is waiting
        self._received += len(data)
        if self._received > RESULT_BYTES:
            self._blame(f"sent more than {RESULT_BYTES} bytes of results")
            return
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            self._message(line, now)

    def _message(self, line: bytes, now: float) -> None:
        """One line that arrived at `now`: a result."""
        try:
            message = json.loads(line)
            cell_id, result = message["cell_id"], message["result"]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self._blame(f"sent something that is no result: {line[:80]!r}")
            return
        if cell_id not in [cell["id"] for cell in self.job["cells"]]:
            self._blame("sent a result that was not asked for")
        elif cell_id not in self.waiting:
            self._blame(f"sent the result of cell {cell_id} twice; the first one counts")
        elif wrong := check_result(result):
            self._blame(wrong)
        else:
            self._accept(cell_id, result, now)

    def _accept(self, cell_id: str, result: Result, now: float) -> None:
        """A good result: with the second clock; a failure for want of memory by its name."""
        self.waiting.discard(cell_id)
        if (steady_s := self._stamps.steady_s(cell_id)) is not None:
            result = clocks(result, steady_s)
        if result["status"] == "failed" and out_of_memory.said(result["error"]):
            flags = {**result["flags"], "oom": round(now, 3)}
            result = {**result, "status": "oom", "flags": flags}
        if self.waiting:
            self._hand_on(cell_id, result)
        else:
            self._last, self._last_s = (cell_id, result), now

    def _hand_on(self, cell_id: str, result: Result) -> None:
        """With what there was to blame, if that is not in an earlier record of the visit."""
        if self.fault != self._told:
            self._told = self.fault
            result = {**result, "fault": self.fault}
        self.on_result(cell_id, result)

    def _blame(self, fault: str) -> None:
        self.fault = self.fault or one_line(fault)

    def _ending(self, code: int, by_kernel: bool) -> tuple[str, str]:
        """Status and reason of a process that ended without all of its results."""
        if self._pending and not self.fault:
            self.fault = "the result breaks off in the middle"
        if by_kernel:
            return "oom", "ended by the kernel, which was out of memory" + self._last_words()
        ending = f"ended with status {code} and no result"
        with contextlib.suppress(ValueError):
            ending = f"ended by {signal.Signals(-code).name}" if code < 0 else ending
        status = "oom" if out_of_memory.said(self._tail()) else "crash"
        return status, self.fault or ending + self._last_words()

    def _tail(self) -> str:
        return self.log[-2000:].decode(errors="replace").strip()

    def _last_words(self) -> str:
        lines = self._tail().splitlines()
        return ": " + one_line(lines[-1], 160) if lines else ""


def clocks(result: Result, parent_s: float) -> Result:
    """A result with the steady phase as the second clock saw it; flagged if the two differ."""
    share, seconds = CLOCKS
    flags, worker_s = result["flags"], result.get("phases_s", {}).get("steady")
    if isinstance(worker_s, (int, float)) and abs(parent_s - worker_s) > share * worker_s + seconds:
        flags = {**flags, "clock_mismatch": round(parent_s - worker_s, 6)}
    return {**result, "flags": flags, "parent_steady_s": round(parent_s, 6)}
