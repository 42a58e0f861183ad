"""The log of a run: `metrics.jsonl` and, with evaluations during training, `eval.jsonl`."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiebreak.core.errors import UsageError
from tiebreak.core.text import nan_to_null
from tiebreak.training.trackers import TrackedRun, Tracker


class JsonLinesFile:
    """A file of JSON lines; each `write` appends one whole line before it returns."""

    def __init__(self, path: Path, lines: int, size: int):
        """Open `path` and truncate it to `size` bytes, which hold `lines` lines.

        Raises UsageError where it is shorter.
        """
        self.lines, self._path = lines, path
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        if os.fstat(self._handle).st_size < size:
            os.close(self._handle)
            raise UsageError(f"{str(path)!r} is shorter than it was when the checkpoint was taken")
        os.ftruncate(self._handle, size)

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line; NaN and infinities become null.

        Raises OSError where the disk is full; what was written of the line is cut off again.
        """
        text = json.dumps(nan_to_null(dict(line)), allow_nan=False)
        data = (text + "\n").encode()
        size = os.fstat(self._handle).st_size
        try:
            if os.write(self._handle, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            os.ftruncate(self._handle, size)
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        self.lines += 1

    def position(self) -> tuple[int, int]:
        """Sync to disk, and return the number of lines and bytes."""
        os.fsync(self._handle)
        return self.lines, os.fstat(self._handle).st_size

    def close(self) -> None:
        """Close; `position` has synced what is to last."""
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
