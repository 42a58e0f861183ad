"""Starts one worker, listens to it, and ends it with all that it started, whatever it does.

The worker is never trusted: its output is capped, its results are parsed as JSON and checked, its
time is limited, and its process group is ended even when it says that it has finished.
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

from tiebreak.bench.clock import Timer
from tiebreak.bench.record import check_result, one_line

INHERITED = (
    "CC", "CUDA_HOME", "CXX", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "MUJOCO_GL",
    "PATH", "SYSTEMROOT", "TZ", "VIRTUAL_ENV",
)  # fmt: skip
"""What a worker gets of the manager's environment; no tokens, no XLA_FLAGS, no surprises."""

LOG_BYTES = 256 * 1024
RESULT_BYTES = 4 * 1024 * 1024
GRACE_S = 3.0
"""Between asking a worker to end and ending it."""


class Worker:
    """One visit's process. `run` blocks until it is over, and calls back for each good result."""

    def __init__(
        self,
        job: Mapping[str, Any],
        folder: Path,
        cache: Path,
        on_result: Callable[[str, Any], None],
    ):
        self.job, self.folder, self.cache, self.on_result = job, folder, cache, on_result
        self.waiting = {cell["id"] for cell in job["cells"]}
        self.fault = ""
        """The first thing that it sent and should not have, in one line."""
        self.log = b""
        self.wall_s = 0.0
        self._pending, self._received = b"", 0

    def run(self, timeout_s: float) -> tuple[str, str]:
        """("ok" | "timeout" | "crash", one-line reason); the reason is for cells without result."""
        timer = Timer()
        results, ours = os.pipe()
        try:
            process = self._start(ours)
        finally:
            os.close(ours)
        try:
            ended = self._listen(process, results, timer, timeout_s)
        finally:  # also when the manager is interrupted
            _end_group(process)
            os.close(results)
            if process.stdout:
                process.stdout.close()
            self.wall_s = timer.elapsed_s()
        if not ended:
            return "timeout", f"no result within {timeout_s:g} s"
        if self.waiting:
            return "crash", self._reason(process.returncode)
        return "ok", self.fault

    def _start(self, result_fd: int) -> subprocess.Popen[bytes]:
        job_file = self.folder / "job.json"
        job = {**self.job, "manager_pid": os.getpid()}
        job_file.write_text(json.dumps(job), encoding="utf-8")
        return subprocess.Popen(
            [sys.executable, "-m", "tiebreak.bench.worker", str(job_file), str(result_fd)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=environment(self.job, self.folder, self.cache),
            pass_fds=(result_fd,),
            start_new_session=True,
        )

    def _listen(
        self, process: subprocess.Popen[bytes], results: int, timer: Timer, timeout_s: float
    ) -> bool:
        """Read until the process has ended (True) or its time is up (False)."""
        assert process.stdout
        readers = {results: self._take, process.stdout.fileno(): self._keep}
        with selectors.DefaultSelector() as selector:
            for fd in readers:
                os.set_blocking(fd, False)
                selector.register(fd, selectors.EVENT_READ)
            while not _has_ended(process):
                if timer.elapsed_s() > timeout_s:
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
        self._received += len(data)
        if self._received > RESULT_BYTES:
            self._blame(f"sent more than {RESULT_BYTES} bytes of results")
            return
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            self._message(line)

    def _message(self, line: bytes) -> None:
        try:
            message = json.loads(line)
            cell_id, result = message["cell_id"], message["result"]
        except (ValueError, TypeError, KeyError, RecursionError):
            self._blame(f"sent something that is no result: {line[:80]!r}")
            return
        if cell_id not in self.waiting:
            self._blame("sent a result twice, or one that was not asked for")
        elif wrong := check_result(result):
            self._blame(wrong)
        else:
            self.waiting.discard(cell_id)
            self.on_result(cell_id, result)

    def _blame(self, fault: str) -> None:
        self.fault = self.fault or one_line(fault)

    def _reason(self, code: int) -> str:
        if self._pending and not self.fault:
            self.fault = "the result breaks off in the middle"
        if code < 0:
            with contextlib.suppress(ValueError):
                return self.fault or f"ended by {signal.Signals(-code).name}" + self._last_words()
        return self.fault or f"ended with status {code} and no result" + self._last_words()

    def _last_words(self) -> str:
        lines = self.log.decode(errors="replace").strip().splitlines()
        return ": " + one_line(lines[-1], 160) if lines else ""


def environment(job: Mapping[str, Any], folder: Path, cache: Path) -> dict[str, str]:
    """Every variable that a worker sees."""
    threads = str(job["threads"])
    env = {name: os.environ[name] for name in INHERITED if name in os.environ}
    counts = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "VECLIB_MAXIMUM")
    env |= {f"{name}_NUM_THREADS": threads for name in counts}
    env |= {"TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": "1"}
    env |= {"PJRT_NPROC": threads, "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1"}
    env |= {"PYTHONHASHSEED": str(job["hash_seed"]), "PYTHONPATH": _python_path()}
    env |= {"TMPDIR": str(_private(folder / "tmp")), "XDG_CACHE_HOME": str(folder / "tmp")}
    env |= {
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "CUDA_CACHE_PATH": str(cache / "cuda"),
    }
    if job["cells"][0]["device"] == "cpu":  # or a GPU that is there would be started, or used
        env |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    return env


def _python_path() -> str:
    """This package, then the manager's own PYTHONPATH, absolute: workers run elsewhere."""
    own = str(Path(__file__).resolve().parents[2])
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join([own, *(os.path.abspath(entry) for entry in given if entry)])


def _private(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it is over, without collecting it: its number stays taken until its group ends."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the worker and every process of its group; ask first, if it is still running."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if not _has_ended(process):
            os.killpg(process.pid, signal.SIGTERM)
            timer = Timer()
            while not _has_ended(process) and timer.elapsed_s() < GRACE_S:
                _nap()
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _nap() -> None:
    with selectors.DefaultSelector() as selector:
        selector.select(0.05)
