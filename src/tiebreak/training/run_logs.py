"""Read what a training run has logged; each error is one line that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiebreak.core.errors import UsageError

CONFIG, METRICS, EVALUATIONS, RESULT = "config.json", "metrics.jsonl", "eval.jsonl", "result.json"
"""Files of a run's folder."""


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raises UsageError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"cannot read {str(path)!r}: {error}") from error
    if not isinstance(value, dict):
        raise UsageError(f"cannot read {str(path)!r}: it holds no object")
    return value


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a log, without one that a killed process has cut; [] without a log.

    Raises UsageError.
    """
    if not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
        return [json.loads(line) for line in lines]
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"cannot read {str(path)!r}: {error}") from error
