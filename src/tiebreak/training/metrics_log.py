"""What a training run tells meanwhile: lines of JSON in its folder, and a display for people."""

from __future__ import annotations

import fcntl
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from tiebreak.core.errors import UsageError

LINE_EVERY_S = 10.0
"""How often the display writes a line where there is no terminal."""


class MetricsFile:
    """A log of JSON: one whole line per `write`, in the file when that returns.

    Open, it is locked: two processes cannot train into one folder.
    """

    def __init__(self, path: Path, lines: int = 0, size: int = 0):
        """`lines` and `size` (bytes): how much of an existing file holds; the rest is cut off."""
        self.lines = lines
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._take(path, size)
        except BaseException:
            os.close(self._handle)
            raise

    def _take(self, path: Path, size: int) -> None:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another process is training into {str(path.parent)!r}") from None
        if os.fstat(self._handle).st_size < size:
            raise UsageError(f"{str(path)!r} is shorter than it was when the checkpoint was taken")
        os.ftruncate(self._handle, size)

    def mark(self) -> tuple[int, int]:
        """Lines and bytes so far, which are on the disk now."""
        os.fsync(self._handle)
        return self.lines, os.fstat(self._handle).st_size

    def write(self, line: dict[str, Any]) -> None:
        """Append one line; numbers that JSON cannot say (NaN, infinity) become null."""
        values = {k: _finite(v) for k, v in line.items()}
        os.write(self._handle, (json.dumps(values, allow_nan=False) + "\n").encode())
        self.lines += 1

    def close(self) -> None:
        """Make sure it is on the disk."""
        os.fsync(self._handle)
        os.close(self._handle)


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def summarize(parts: Sequence[Any]) -> dict[str, Any]:
    """Progress of some runs, as NumPy -> episodes, means over them, and each metric's mean.

    `mean_return` and `mean_length` are None while no episode has ended.
    """
    episodes = int(sum(np.sum(p.episodes) for p in parts))
    out: dict[str, Any] = {"episodes": episodes, "mean_return": None, "mean_length": None}
    if episodes:
        out["mean_return"] = float(sum(np.sum(p.return_sum) for p in parts)) / episodes
        out["mean_length"] = float(sum(np.sum(p.length_sum) for p in parts)) / episodes
    learnt = [p.metrics for p in parts if hasattr(p.metrics, "_fields")]
    for name in learnt[0]._fields if learnt else ():
        values = [np.ravel(getattr(metrics, name)) for metrics in learnt]
        out[name] = float(np.mean(np.concatenate(values), dtype=np.float64))
    return out


def summarize_agents(parts: Sequence[Any]) -> dict[str, Any]:
    """The same of a population: every value is a list, one for each agent.

    How far an agent has come is nothing to the others: each stands as it would in its own log.
    """
    fields = ("episodes", "return_sum", "length_sum")
    sums = [np.sum([getattr(p, f) for p in parts], axis=0, dtype=np.float64) for f in fields]
    episodes, returns, lengths = (np.atleast_1d(x).tolist() for x in sums)
    out: dict[str, Any] = {"episodes": [int(n) for n in episodes]}
    for name, total in (("mean_return", returns), ("mean_length", lengths)):
        out[name] = [x / n if n else None for x, n in zip(total, episodes, strict=True)]
    learnt = [p.metrics for p in parts if p.metrics is not None]
    for name in learnt[0]._fields if learnt else ():
        values = [getattr(metrics, name) for metrics in learnt]
        out[name] = np.mean(values, axis=0, dtype=np.float64).tolist()
    return out


def mean_of(value: Any) -> float | None:
    """A number of the log; of a population, the mean over the agents that have one."""
    known = [v for v in (value if isinstance(value, list) else [value]) if v is not None]
    return sum(known) / len(known) if known else None


class Display:
    """A progress bar on a terminal, a line now and then elsewhere; always on stderr."""

    def __init__(
        self, title: str, total_steps: int, shown: bool = True, file: TextIO | None = None
    ):
        self._title, self._total = title, total_steps
        self._file = file or sys.stderr
        self._last_s, self._return, self._greedy = time.perf_counter(), "–", ""
        self._bar = _bar(self._file) if shown and self._file.isatty() else None
        self._shown = shown
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task(f"{title}: first call", total=total_steps, info="")

    def update(self, line: dict[str, Any]) -> None:
        """Show the state after one logging interval (a line of metrics.jsonl)."""
        if not self._shown:
            return
        if (reached := mean_of(line["mean_return"])) is not None:
            self._return = f"{reached:.1f}"
        info = f"return {self._return}{self._greedy} · {line['steps_per_s']:,.0f} steps/s"
        if self._bar:
            self._bar.update(
                self._task, completed=line["steps"], description=self._title, info=info
            )
        elif time.perf_counter() - self._last_s >= LINE_EVERY_S:
            self._last_s = time.perf_counter()
            done = f"{line['steps']:,} of {self._total:,} steps"
            print(f"{self._title}: {done} · {info}", file=self._file, flush=True)

    def evaluated(self, line: dict[str, Any]) -> None:
        """Show an evaluation (a line of eval.jsonl)."""
        self._greedy = f" · greedy {line['return_mean']:.1f}"
        if not self._bar:
            self.note(f"greedy return {line['return_mean']:.1f} at {line['steps']:,} steps")

    def note(self, text: str) -> None:
        """A line that stays."""
        if self._bar:
            self._bar.console.print(f"{self._title}: {text}", markup=False, highlight=False)
        elif self._shown:
            print(f"{self._title}: {text}", file=self._file, flush=True)

    def say(self, text: str) -> None:
        """Replace the bar's title, e.g. by `stopping`."""
        if self._bar:
            self._bar.update(self._task, description=text)

    def close(self) -> None:
        """End the bar and leave the terminal clean."""
        if self._bar:
            self._bar.stop()


def _bar(file: TextIO) -> Any:
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[info]}"),
        console=Console(file=file),
        transient=True,
    )
