"""The progress of a run for people: a bar on a terminal, a line that is overwritten in a notebook,
and a line now and then elsewhere.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from tiebreak.training.summaries import mean_over_agents
from tiebreak.training.trackers import TrackedRun, Tracker

LINE_EVERY_S = 10.0
"""Seconds between two lines where there is no terminal."""


class Display(Tracker):
    """A progress bar on a terminal, a line in a notebook, lines elsewhere; always on stderr."""

    def __init__(
        self, title: str, total_steps: int, shown: bool = True, file: TextIO | None = None
    ):
        self._title, self._total = title, total_steps
        self._file = file or sys.stderr
        self._shown = shown
        self._last_s = time.perf_counter()
        self._return, self._greedy = "–", ""
        self._bar = _make_bar(self._file) if shown and self._file.isatty() else None
        self._overwrites = shown and not self._bar and _is_in_notebook()
        self._width = 0
        """Characters of the line that can be overwritten."""
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task(f"{title}: first call", total=total_steps, info="")

    def log_metrics(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Show the state after one logging interval."""
        if not self._shown:
            return
        mean_return = mean_over_agents(metrics["mean_return"])
        if mean_return is not None:
            self._return = f"{mean_return:.1f}"
        info = f"return {self._return}{self._greedy} · {metrics['steps_per_s']:,.0f} steps/s"

        done = f"{step:,} of {self._total:,} steps"
        if self._bar:
            self._bar.update(self._task, completed=step, description=self._title, info=info)
        elif self._overwrites:
            self._overwrite(f"{self._title}: {done} · {info}")
        elif time.perf_counter() - self._last_s >= LINE_EVERY_S:
            self._last_s = time.perf_counter()
            print(f"{self._title}: {done} · {info}", file=self._file, flush=True)

    def log_evaluation(self, step: int, evaluation: Mapping[str, Any]) -> None:
        """Show the mean of an evaluation's returns."""
        self._greedy = f" · greedy {evaluation['return_mean']:.1f}"
        if not self._bar and not self._overwrites:
            self.log_note(f"greedy return {evaluation['return_mean']:.1f} at {step:,} steps")

    def log_note(self, text: str) -> None:
        """Print a line that stays."""
        if self._bar:
            self._bar.console.print(f"{self._title}: {text}", markup=False, highlight=False)
        elif self._shown:
            self._end_line()
            print(f"{self._title}: {text}", file=self._file, flush=True)

    def log_status(self, text: str) -> None:
        """Show `text` in place of the bar's title; without a terminal, print it as a line."""
        if self._bar:
            self._bar.update(self._task, description=f"{self._title}: {text}")
        elif self._overwrites:
            self._overwrite(f"{self._title}: {text}{self._greedy}")
        else:
            self.log_note(text)

    def close(self) -> None:
        """Remove the bar and leave the terminal clean."""
        if self._bar:
            self._bar.stop()
        self._end_line()

    def _overwrite(self, text: str) -> None:
        """Print a line over the last one that was printed so."""
        print(f"\r{text:<{self._width}}", end="", file=self._file, flush=True)
        self._width = len(text)

    def _end_line(self) -> None:
        """Let the line that can be overwritten stay."""
        if self._width:
            print(file=self._file, flush=True)
            self._width = 0


def make(run: TrackedRun) -> Display:
    """Start the display of `run`."""
    return Display(run.title, run.total_steps, run.show_progress)


def _is_in_notebook() -> bool:
    """Return whether output is shown by Jupyter, which is no terminal, but can overwrite a line."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel")


def _make_bar(file: TextIO) -> Any:
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
