"""The log of a run: `metrics.jsonl` and, with evaluations during training, `eval.jsonl`."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiebreak.core.errors import UsageError
from tiebreak.core.text import nan_to_null
from tiebreak.training.trackers import TrackedRun, Tracker


class JsonLinesFile:
    """A file of JSON lines; each `write` appends one whole line before it returns.

    The file is locked while open, so that two processes cannot train into one folder.
    """

    def __init__(self, path: Path, lines: int = 0, size: int = 0):
        """Open `path` and truncate it to `size` bytes, which hold `lines` lines.

        Raises UsageError where another process has it open, or where it is shorter.
        """
        self.lines = lines
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._lock_and_truncate(path, size)
        except BaseException:
            os.close(self._handle)
            raise

    def _lock_and_truncate(self, path: Path, size: int) -> None:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another process is training into {str(path.parent)!r}") from None
        if os.fstat(self._handle).st_size < size:
            raise UsageError(f"{str(path)!r} is shorter than it was when the checkpoint was taken")
        os.ftruncate(self._handle, size)

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line; NaN and infinities become null."""
        text = json.dumps(nan_to_null(dict(line)), allow_nan=False)
        os.write(self._handle, (text + "\n").encode())
        self.lines += 1

    def position(self) -> tuple[int, int]:
        """Sync to disk, and return the number of lines and bytes."""
        os.fsync(self._handle)
        return self.lines, os.fstat(self._handle).st_size

    def close(self) -> None:
        """Sync to disk and close."""
        os.fsync(self._handle)
        os.close(self._handle)


class MetricsLog(Tracker):
    """Writes a run's metrics and evaluations as lines of JSON into its folder."""

    def __init__(self, run: TrackedRun):
        self._evaluations: JsonLinesFile | None = None
        self._metrics = _open(run, "metrics")
        if run.evaluates:
            try:
                self._evaluations = _open(run, "eval", "evaluations")
            except BaseException:
                self._metrics.close()
                raise

    def log_metrics(self, step: int, metrics: Mapping[str, Any]) -> None:
        self._metrics.write(metrics)

    def log_evaluation(self, step: int, evaluation: Mapping[str, Any]) -> None:
        if self._evaluations is not None:
            self._evaluations.write(evaluation)

    def position(self) -> Mapping[str, tuple[int, int]]:
        """Sync to disk; lines and bytes of `metrics` and `evaluations`."""
        positions = {"metrics": self._metrics.position()}
        if self._evaluations is not None:
            positions["evaluations"] = self._evaluations.position()
        return positions

    def finish(self, result: Mapping[str, Any]) -> None:
        self.position()

    def close(self) -> None:
        self._metrics.close()
        if self._evaluations is not None:
            self._evaluations.close()


def make(run: TrackedRun) -> MetricsLog:
    """Open the log of `run`, truncated to where the run continues."""
    return MetricsLog(run)


def _open(run: TrackedRun, name: str, key: str = "") -> JsonLinesFile:
    lines, size = run.positions.get(key or name, (0, 0))
    return JsonLinesFile(run.folder / f"{name}.jsonl", lines, size)
