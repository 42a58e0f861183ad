"""Resolve the settings of a contestant in a process of our own environment.

The reference settings depend on the task's spec, for which its engine is imported. A contestant's
environment may have another version of the engine, or none, and the manager imports nothing.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

from tiebreak.bench.manager.worker_env import python_path
from tiebreak.bench.suite.plan import Cell
from tiebreak.core import user_modules
from tiebreak.core.process_env import SAFE, inherited_variables
from tiebreak.core.text import one_line

TIMEOUT_S = 120.0
"""Time in which an engine has to tell the spec of a task."""

SCRIPT = """
import dataclasses, json, sys
from tiebreak.bench.probes.subject import resolve_config
from tiebreak.bench.suite.plan import Cell

config = resolve_config(Cell.from_json(json.loads(sys.argv[1])))
print(json.dumps(dataclasses.asdict(config)))
"""


def resolved_settings(cell: Cell) -> dict[str, Any]:
    """Return all settings of the algorithm of a contestant's cell."""
    return _resolve(_without_row(cell))[0]


def why_unresolved(cell: Cell) -> str:
    """Return why the settings of a contestant's cell, or its task, are none; empty if they are."""
    return _resolve(_without_row(cell))[1] if cell.contestant else ""


def _without_row(cell: Cell) -> str:
    """Return a cell as JSON without what tells it from other rows of its race."""
    row = {"label": "", "contestant": "", "packages": (), "peer": "", "python": "", "threads": 0}
    return json.dumps(replace(cell, **row).to_json(), sort_keys=True)


@functools.cache
def _resolve(cell: str) -> tuple[dict[str, Any], str]:
    """Return all settings of a cell, or why there are none."""
    environment = {
        **inherited_variables("MUJOCO_GL"),
        "PYTHONPATH": python_path(),
        user_modules.FOLDER: user_modules.started_in(),
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
    }
    try:
        done = subprocess.run(
            [sys.executable, *SAFE, "-c", SCRIPT, cell],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=True,
        )
        return json.loads(done.stdout.splitlines()[-1]), ""
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines()
        reason = one_line(lines[-1]) if lines else f"exit status {error.returncode}"
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
        reason = one_line(error)
    return {}, f"its settings cannot be resolved: {reason}"
