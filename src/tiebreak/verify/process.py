"""Start one worker of the certificate, and end it with all processes that it started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tiebreak import registry
from tiebreak.core.process_env import SAFE, inherited_variables
from tiebreak.verify.case import cases_of
from tiebreak.verify.compare import ErrorTable
from tiebreak.verify.worker import Request

TIME_LIMIT_S = 900

_running: set[subprocess.Popen] = set()


def start(request: Request) -> dict:
    """Run one worker to its end and return its result; a failed worker is one failed check."""
    with tempfile.TemporaryDirectory(prefix="tiebreak-verify-") as folder:
        result, log = Path(folder, "result.json"), Path(folder, "log")
        reason = _run(request, result, log)
        if not reason:
            return json.loads(result.read_text())
        errors = ErrorTable(request.algorithm, request.framework, request.precision)
        mode = registry.framework(request.framework).default_mode
        cases = cases_of(request.algorithm)
        errors.enter(mode, cases.fixed(cases.ACTIONS[0]), "L0", "worker", None, 0.0, reason)
        checks = list(errors.entries.values())
        return {"checks": checks, "skipped": [], "weights": {}, "packages": {}}


def _run(request: Request, result: Path, log: Path) -> str:
    """Start a worker, wait, end its process group; return an error message, or ""."""
    env = inherited_variables("PYTHONPATH", "TMPDIR")
    env |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, *SAFE, "-m", "tiebreak.verify.worker"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, json.dumps(request._asdict()), str(result)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, start_new_session=True,
        )  # fmt: skip
        _running.add(process)
        try:
            status = process.wait(timeout=TIME_LIMIT_S)
        except subprocess.TimeoutExpired:
            return f"no result within {TIME_LIMIT_S} s"
        finally:
            _running.discard(process)
            _end(process)
    if status == 0 and result.exists():
        return ""
    lines = log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"]
    return f"worker ended with status {status}: {lines[-1][:300]}"


def stop_all() -> None:
    """End every worker that is still running, so that the threads that wait for them return."""
    for process in list(_running):
        _end(process)


def _end(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # the group: compilers that it may have left
    process.wait()
