"""Run one agent of a user's in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

from tiebreak.core import user_modules
from tiebreak.core.errors import UsageError
from tiebreak.core.process_env import SAFE
from tiebreak.core.text import one_line
from tiebreak.verify.against.trace import Trace
from tiebreak.verify.against.worker import Answer, Request

TIME_LIMIT_S = 600


def ask_agent(request: Request) -> Answer:
    """Return what an agent computes; raise UsageError, on one line, for whatever goes wrong.

    What it prints goes to stderr: stdout is the table's. What libraries log is shown only if the
    process ends without a result.
    """
    with tempfile.TemporaryFile() as result, tempfile.TemporaryFile() as log:
        arguments = json.dumps(request._asdict()), str(result.fileno()), str(os.getpid())
        try:
            status = subprocess.run(
                [sys.executable, *SAFE, "-m", "tiebreak.verify.against.worker", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=2,
                stderr=log,
                env=_environment(request.precision),
                pass_fds=[result.fileno()],
                timeout=TIME_LIMIT_S,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            raise UsageError(f"{request.agent} gave no result within {TIME_LIMIT_S} s") from None
        if status != 0:
            log.seek(0)
            text = log.read().decode(errors="replace").strip() or "it logged nothing"
            last = one_line(text.splitlines()[-1])
            raise UsageError(f"the process of {request.agent} ended with status {status}: {last}")
        result.seek(0)
        return _read(result)


def _environment(precision: str) -> dict[str, str]:
    """Return the user's own variables, with what keeps arithmetic on the CPU and in `precision`."""
    fixed = {
        "CUDA_VISIBLE_DEVICES": "",
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": "1" if precision == "float64" else "0",
        user_modules.FOLDER: user_modules.started_in(),
    }
    return {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, **fixed}


def _read(result: Any) -> Answer:
    with np.load(result) as file:
        facts = json.loads(str(file["facts"]))
        if "error" in facts:
            raise UsageError(facts["error"])
        updates: Trace = [{} for _ in range(facts.pop("count"))]
        for key in file.files:
            index, bar, name = key.partition("|")
            if bar:
                updates[int(index)][name] = file[key]
    return Answer(updates, facts.pop("actions"), facts.pop("settings"), facts)
