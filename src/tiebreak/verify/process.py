"""Start one worker of the certificate, and end it with all processes that it started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from typing import IO

from tiebreak import registry
from tiebreak.core.process_env import SAFE, inherited_variables
from tiebreak.verify.case import cases_of
from tiebreak.verify.compare import ErrorTable
from tiebreak.verify.worker import Request

TIME_LIMIT_S = 900


class Workers:
    """Workers of one certificate; `stop` ends all that run, from whatever thread."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def start(self, request: Request) -> dict:
        """Run one worker to its end and return its result; a failed worker is one failed check."""
        # Files without a name: nothing is left of them, however this process ends.
        with tempfile.TemporaryFile() as result, tempfile.TemporaryFile() as log:
            reason = self._run(request, result, log)
            if not reason:
                result.seek(0)
                return json.load(result)
        errors = ErrorTable(request.algorithm, request.framework, request.precision)
        mode = request.mode or registry.framework(request.framework).default_mode
        cases = cases_of(request.algorithm)
        errors.enter(mode, cases.fixed(cases.ACTIONS[0]), "L0", "worker", None, 0.0, reason)
        checks = list(errors.entries.values())
        return {"checks": checks, "skipped": [], "weights": {}, "packages": {}}

    def stop(self) -> None:
        """End every worker that is still running, and start no further one."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                _kill_group(process)

    def _run(self, request: Request, result: IO[bytes], log: IO[bytes]) -> str:
        """Start a worker, wait, end its process group; return an error message, or ""."""
        with self._lock:
            if self._stopped:
                return "stopped"
            process = _spawn(request, result, log)
            self._running.add(process)
        try:
            status = process.wait(timeout=TIME_LIMIT_S)
        except subprocess.TimeoutExpired:
            return f"no result within {TIME_LIMIT_S} s"
        finally:
            _kill_group(process)
            process.wait()
            with self._lock:
                self._running.discard(process)
        if status == 0:
            return ""
        log.seek(0)
        lines = log.read().decode(errors="replace").strip().splitlines() or ["it printed nothing"]
        return f"worker ended with status {status}: {lines[-1][:300]}"


def _spawn(request: Request, result: IO[bytes], log: IO[bytes]) -> subprocess.Popen:
    env = inherited_variables("PYTHONPATH", "TMPDIR")
    env |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "2"}
    arguments = json.dumps(request._asdict()), str(result.fileno()), str(os.getpid())
    return subprocess.Popen(
        [sys.executable, *SAFE, "-m", "tiebreak.verify.worker", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=env,
        pass_fds=[result.fileno()],
        start_new_session=True,
    )


def _kill_group(process: subprocess.Popen) -> None:
    """Kill a worker and its process group: compilers that it may have left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
