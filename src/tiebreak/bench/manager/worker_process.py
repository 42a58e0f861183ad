"""One worker: how it is started, listened to, and ended with all that it started.

The worker is never trusted: its output is capped, its results are parsed as JSON and checked, its
time is limited, and all that it started is ended even when it says that it has finished.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tiebreak.bench.manager import oom
from tiebreak.bench.manager.kernel_clock import Event, Stamps
from tiebreak.bench.manager.reaper import end_group, has_ended
from tiebreak.bench.manager.record import check_result, one_line
from tiebreak.bench.manager.worker_env import environment
from tiebreak.bench.worker.clock import Timer

JOB = "job.json"
"""What the worker is told, in its folder."""
LOG_BYTES = 256 * 1024
RESULT_BYTES = 4 * 1024 * 1024
GRACE_S = 3.0
"""Between asking a worker to end and ending it."""
MAX_DRAINS = 64
"""Reads from each pipe of a worker that has ended."""
END_S = 10.0
"""How long a worker may take to end that has sent all its results."""

Result = dict[str, Any]


class Worker:
    """One visit's process, which together.py starts, listens to and ends.

    Each result is handed on the moment it arrives, but for the last: until the process has ended,
    which takes END_S at most, it may show that there is something to be said about it (`fault`).
    """

    def __init__(
        self,
        job: Mapping[str, Any],
        folder: Path,
        cache: Path,
        on_result: Callable[[str, Result], None],
        on_start: Callable[[], None] = lambda: None,
    ):
        self.job, self.folder, self.cache = job, folder, cache
        self.on_result, self.on_start = on_result, on_start
        self.waiting = {cell["id"] for cell in job["cells"]}
        self.asks: Event = {}
        """What it said when it asked for its turn, while it waits for that."""
        self.active_s = 0.0
        """For how long it was not waiting."""
        self.ending = "ok", ""
        """(status, one-line reason) of cells without a result: timeout, oom, crash."""
        self.fault = ""
        """The first thing that it sent and should not have, in one line."""
        self.log = b""
        self._timer = Timer()
        self._last: tuple[str, Result] | None = None
        self._last_s = 0.0
        self._stamps = Stamps()
        self._pending, self._received, self._told = b"", 0, ""

    def start(self) -> bool:
        """Start the process; False, with an `ending`, if that cannot be done."""
        self.on_start()
        self._timer, self._killed = Timer(), oom.kills()
        self._write_job()
        self._results, ours = os.pipe()
        try:
            self.process = self._start(ours)
        except OSError as error:  # no memory, or too many processes
            os.close(self._results)
            self._stamps.close()
            status = "oom" if oom.said(str(error)) else "crash"
            self.ending = status, f"could not be started: {error.strerror}"
            return False
        finally:
            os.close(ours)
        self._stamps.started()
        return True

    def readers(self) -> dict[int, Callable[[], bool]]:
        """What is to be read, and by what; False when that is closed at the other end."""
        assert self.process.stdout
        out, results = self.process.stdout.fileno(), self._results
        for fd in (out, results):
            os.set_blocking(fd, False)
        return {
            results: lambda: self._read(results, self._take),
            out: lambda: self._read(out, self._keep),
            self._stamps.fileno(): self._take_events,
        }

    @property
    def over(self) -> bool:
        """Whether it has ended, should have, or has to be ended."""
        late = self._last is not None and self._timer.elapsed_s() > self._last_s + END_S
        return has_ended(self.process) or late or self._received > RESULT_BYTES

    def answer(self, word: bytes) -> None:
        """Let it go on."""
        self.asks = {}
        self._stamps.answer(word)

    def end(self, timeout_s: float | None) -> None:
        """End it and its group; `timeout_s` if it had so long, and that was too long."""
        alive = not has_ended(self.process)
        end_group(self.process, GRACE_S)
        self._drain()
        if self.waiting and timeout_s is not None:
            self.ending = "timeout", f"no result within {timeout_s:g} s"
        elif self.waiting:
            sigkill = not alive and self.process.returncode == -signal.SIGKILL
            by_kernel = sigkill and oom.kills() > self._killed
            self.ending = self._ending(self.process.returncode, by_kernel)

    def close(self) -> None:
        """Let go of its pipes, and hand on its last result."""
        os.close(self._results)
        self._stamps.close()
        if self.process.stdout:
            self.process.stdout.close()
        if self._last:
            self._hand_on(*self._last)
            self._last = None

    def _write_job(self) -> None:
        job = {**self.job, "manager_pid": os.getpid()}
        (self.folder / JOB).write_text(json.dumps(job), encoding="utf-8")

    def _start(self, result_fd: int) -> subprocess.Popen[bytes]:
        told = result_fd, self._stamps.fd
        return subprocess.Popen(
            [sys.executable, "-m", "tiebreak.bench.worker.main", JOB, *map(str, told)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=environment(self.job, self.folder, self.cache),
            pass_fds=told,
            start_new_session=True,
        )

    def _take_events(self) -> bool:
        """Read events; True, as the socket stays open as long as the worker.

        `_take` reads events too, so that finding none here does not mean that it was closed.
        """
        self._read_events()
        return True

    def _read_events(self) -> bool:
        """Note a request for a turn for one of its own cells; return whether more may wait."""
        events, more = self._stamps.read()
        for event in events:
            if event["when"] == "ready" and event["cell_id"] in self.waiting:
                self.asks = event
        return more

    def _drain(self) -> None:
        """Read what an ended worker has left in its pipes and its socket.

        Bounded, because a child that it left behind may go on writing.
        """
        assert self.process.stdout
        out, results = self.process.stdout.fileno(), self._results
        for read in (
            lambda: self._read(results, self._take),
            lambda: self._read(out, self._keep),
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

    def _keep(self, data: bytes) -> None:
        self.log += data[: LOG_BYTES - len(self.log)]

    def _take(self, data: bytes) -> None:
        now = self._timer.elapsed_s()
        self._read_events()  # what was told before this result
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
        result = self._stamps.checked(cell_id, result)
        if result["status"] == "failed" and oom.said(result["error"]):
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
        status = "oom" if oom.said(self._tail()) else "crash"
        return status, self.fault or ending + self._last_words()

    def _tail(self) -> str:
        return self.log[-2000:].decode(errors="replace").strip()

    def _last_words(self) -> str:
        lines = self._tail().splitlines()
        return ": " + one_line(lines[-1], 160) if lines else ""
