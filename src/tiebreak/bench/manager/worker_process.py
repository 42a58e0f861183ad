"""Start a worker process, read its results, and end it with all processes that it started.

The worker is never trusted: its output is capped, its results are parsed as JSON and checked, its
time is limited, and its child processes are ended even when it reports that it has finished.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tiebreak.bench.clock import Timer
from tiebreak.bench.manager import oom
from tiebreak.bench.manager.kernel_clock import Event, KernelClock
from tiebreak.bench.manager.reaper import end_group, has_ended
from tiebreak.bench.manager.worker_env import worker_environment
from tiebreak.bench.record import Result, check_result, one_line
from tiebreak.bench.suite.plan import Job
from tiebreak.core.process_env import SAFE

JOB_FILE = "job.json"
"""Name of the file with the worker's job, in its folder."""

LOG_BYTES = 256 * 1024
"""Output of a worker that is kept."""

RESULT_BYTES = 4 * 1024 * 1024
"""Bytes of results at which a worker is ended."""

GRACE_S = 3.0
"""Time between SIGTERM and SIGKILL."""

MAX_DRAINS = 64
"""Reads from each pipe of a worker that has ended."""

END_S = 10.0
"""Time in which a worker has to end that has sent all of its results."""


class Worker:
    """The process of one run; interleave.py starts it, reads from it and ends it.

    Each result is delivered the moment it arrives, except for the last, which is delivered when
    the process has ended: until then it may send something unexpected (`fault`).
    """

    def __init__(
        self,
        job: Job,
        folder: Path,
        cache: Path,
        on_result: Callable[[str, Result], None],
        on_start: Callable[[], None] = lambda: None,
        python: str = "",
    ):
        self.job, self.folder, self.cache = job, folder, cache
        self.python = python
        """Interpreter of another environment; empty: this process's."""
        self.on_result, self.on_start = on_result, on_start
        self.pending = {cell.id for cell in job.cells}
        """Ids of the cells without a result."""
        self.request: Event = {}
        """Its request for a turn, while it waits for the reply."""
        self.active_s = 0.0
        """Seconds that it ran, without waiting for turns."""
        self.overlapped = False
        """Another worker worked at the same time, while this one was not sampling."""
        self.outcome = "ok", ""
        """(status, one-line reason) of cells without a result: timeout, oom, crash."""
        self.fault = ""
        """The first unexpected message, in one line."""
        self.log = b""
        """Its output, capped at LOG_BYTES."""
        self._timer = Timer()
        self._last: tuple[str, Result] | None = None
        """The last result, which is delivered when the process has ended."""
        self._last_s = 0.0
        self._clock = KernelClock()
        self._line_start = b""
        """Bytes after the last complete line of results."""
        self._received_bytes = 0
        self._reported_fault = ""
        """The fault that is in a delivered result already."""

    def start(self) -> bool:
        """Start the process. Return False, with an `outcome`, if that fails."""
        self.on_start()
        self._timer = Timer()
        self._kills_before = oom.kills()
        self._write_job()
        self._results, worker_end = os.pipe()
        try:
            self.process = self._start(worker_end)
        except OSError as error:  # no memory, or too many processes
            os.close(self._results)
            self._clock.close()
            status = "oom" if oom.is_out_of_memory(str(error)) else "crash"
            self.outcome = status, f"could not be started: {error.strerror}"
            return False
        finally:
            os.close(worker_end)
        self._clock.close_worker_end()
        return True

    def readers(self) -> dict[int, Callable[[], bool]]:
        """Return file descriptor -> reader, which returns False once the worker has closed it."""
        assert self.process.stdout
        out, results = self.process.stdout.fileno(), self._results
        for fd in (out, results):
            os.set_blocking(fd, False)
        return {
            results: lambda: self._read(results, self._take_results),
            out: lambda: self._read(out, self._take_output),
            self._clock.fileno(): self._take_events,
        }

    @property
    def is_over(self) -> bool:
        """Return True if the process has ended, should have ended, or has to be ended."""
        late = self._last is not None and self._timer.elapsed_s() > self._last_s + END_S
        return has_ended(self.process) or late or self._received_bytes > RESULT_BYTES

    def dismiss(self, had_turns: bool) -> None:
        """Expect no result but that of the cell that it samples, if it had turns for it."""
        self.pending &= {self.request["cell_id"]} if had_turns else set()

    def reply(self, word: bytes) -> None:
        """Answer its request for a turn."""
        self.request = {}
        self._clock.reply(word)

    def end(self, timeout_s: float | None) -> None:
        """End its process group; `timeout_s` is the time limit if it was exceeded."""
        alive = not has_ended(self.process)
        end_group(self.process, GRACE_S)
        self._drain()
        if self.pending and timeout_s is not None:
            self.outcome = "timeout", f"no result within {timeout_s:g} s"
        elif self.pending:
            sigkill = not alive and self.process.returncode == -signal.SIGKILL
            by_kernel = sigkill and oom.kills() > self._kills_before
            self.outcome = self._explain_exit(self.process.returncode, by_kernel)

    def close(self) -> None:
        """Close its pipes and deliver its last result."""
        os.close(self._results)
        self._clock.close()
        if self.process.stdout:
            self.process.stdout.close()
        if self._last:
            self._deliver(*self._last)
            self._last = None

    def _write_job(self) -> None:
        job = {**self.job.to_json(), "manager_pid": os.getpid()}
        (self.folder / JOB_FILE).write_text(json.dumps(job), encoding="utf-8")

    def _start(self, result_fd: int) -> subprocess.Popen[bytes]:
        fds = result_fd, self._clock.worker_fd
        module = "tiebreak.bench.worker.main"
        return subprocess.Popen(
            [self.python or sys.executable, *SAFE, "-m", module, JOB_FILE, *map(str, fds)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=worker_environment(self.job, self.folder, self.cache, other=bool(self.python)),
            pass_fds=fds,
            start_new_session=True,
        )

    def _take_events(self) -> bool:
        """Read events; True, as the socket stays open as long as the worker.

        `_take_results` reads events too, so that finding none here does not
        mean that it was closed.
        """
        self._read_events()
        return True

    def _read_events(self) -> bool:
        """Store a request for a turn; return whether more events may be waiting."""
        events, more = self._clock.read()
        for event in events:
            if event["when"] == "ready" and event["cell_id"] in self.pending:
                self.request = event
        return more

    def _drain(self) -> None:
        """Read what an ended worker has left in its pipes and its socket.

        Bounded, because a child that it left behind may go on writing.
        """
        assert self.process.stdout
        out, results = self.process.stdout.fileno(), self._results
        for read in (
            lambda: self._read(results, self._take_results),
            lambda: self._read(out, self._take_output),
            self._read_events,
        ):
            for _ in range(MAX_DRAINS):
                if not read():
                    break

    def _read(self, fd: int, reader: Callable[[bytes], None]) -> bool:
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            return False
        reader(data)
        return bool(data)

    def _take_output(self, data: bytes) -> None:
        self.log += data[: LOG_BYTES - len(self.log)]

    def _take_results(self, data: bytes) -> None:
        now_s = self._timer.elapsed_s()
        self._read_events()  # those sent before this result
        self._received_bytes += len(data)
        if self._received_bytes > RESULT_BYTES:
            self._record_fault(f"sent more than {RESULT_BYTES} bytes of results")
            return
        *lines, self._line_start = (self._line_start + data).split(b"\n")
        for line in lines:
            self._take_line(line, now_s)

    def _take_line(self, line: bytes, now_s: float) -> None:
        """Parse one line as a result and check it."""
        try:
            message = json.loads(line)
            cell_id, result = message["cell_id"], message["result"]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self._record_fault(f"sent something that is no result: {line[:80]!r}")
            return
        if cell_id not in [cell.id for cell in self.job.cells]:
            self._record_fault("sent a result that was not asked for")
        elif cell_id not in self.pending:
            self._record_fault(f"sent the result of cell {cell_id} twice; the first one counts")
        elif reason := check_result(result):
            self._record_fault(reason)
        else:
            self._accept(cell_id, result, now_s)

    def _accept(self, cell_id: str, result: Result, now_s: float) -> None:
        """Add the second clock to a valid result, and deliver it unless it is the last."""
        self.pending.discard(cell_id)
        result = self._clock.add_to(cell_id, result)
        if result["status"] == "failed" and oom.is_out_of_memory(result["error"]):
            flags = {**result["flags"], "oom": round(now_s, 3)}
            result = {**result, "status": "oom", "flags": flags}
        if self.pending:
            self._deliver(cell_id, result)
        else:
            self._last, self._last_s = (cell_id, result), now_s

    def _deliver(self, cell_id: str, result: Result) -> None:
        """Pass a result on, with the fault if no earlier result of this worker has it."""
        if self.fault != self._reported_fault:
            self._reported_fault = self.fault
            result = {**result, "fault": self.fault}
        self.on_result(cell_id, result)

    def _record_fault(self, fault: str) -> None:
        self.fault = self.fault or one_line(fault)

    def _explain_exit(self, code: int, by_kernel: bool) -> tuple[str, str]:
        """Return status and reason of a process that ended without all of its results."""
        if self._line_start and not self.fault:
            self.fault = "the result breaks off in the middle"
        if by_kernel:
            return "oom", "ended by the kernel, which was out of memory" + self._last_output()

        reason = f"ended with status {code} and no result"
        if code < 0:
            with contextlib.suppress(ValueError):
                reason = f"ended by {signal.Signals(-code).name}"
        status = "oom" if oom.is_out_of_memory(self._log_tail()) else "crash"
        return status, self.fault or reason + self._last_output()

    def _log_tail(self) -> str:
        return self.log[-2000:].decode(errors="replace").strip()

    def _last_output(self) -> str:
        """Return the last line of its output, as the end of a sentence."""
        lines = self._log_tail().splitlines()
        return ": " + one_line(lines[-1], 160) if lines else ""
