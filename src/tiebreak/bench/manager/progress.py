"""Show on stderr what is being measured, what is left, and for how long.

On a terminal this is a bar whose remaining time counts down, elsewhere one plain line per run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tiebreak.bench.clock import Timer
from tiebreak.bench.record import Result
from tiebreak.bench.suite.plan import Cell, Run
from tiebreak.core.text import duration

if TYPE_CHECKING:
    from rich.progress import Task


class Progress:
    """Progress of a suite. `shown=False` shows nothing at all."""

    def __init__(self, runs: int, shown: bool = True):
        from rich.console import Console

        self.console = Console(stderr=True, quiet=not shown, soft_wrap=True, highlight=False)
        self.total = runs
        """Runs that are to be made."""
        self.started = 0
        """Runs that have started."""
        self.finished = 0
        """Runs that are over, without those that cannot be made here."""
        self.said_missing: set[str] = set()
        """What cannot be made here, and why: said once, and not in every block."""
        self.left_s: float | None = None
        """Seconds left when `since` was started; None if unknown."""
        self.since = Timer()
        self.bar = _bar(self) if shown and self.console.is_terminal else None
        if self.bar:
            self.task = self.bar.add_task("starting", total=runs)
            self.bar.start()

    def add(self, runs: int) -> None:
        """Add runs to the total, such as those of further blocks."""
        self.total += runs
        if self.bar:
            self.bar.update(self.task, total=self.total)

    def start(self, run: Run, left_s: float | None = None, interleaved: int = 1) -> None:
        """Show that a run starts, with the estimated seconds left for everything.

        `interleaved` is the number of runs in its interleaving.
        """
        self.left_s, self.since = left_s, Timer()
        self.started += 1
        if self.bar:
            row = f"{interleaved} rows in turns" if interleaved > 1 else ""
            self.bar.update(self.task, description=_name(run, row))
        else:
            left = "" if left_s is None else f", {duration(left_s)} left"
            self.say(f"[{self.started}/{self.total}{left}] {_name(run)}")

    def finish(self, run: Run, results: Sequence[tuple[Cell, Result]]) -> None:
        """Show that a run is over, with a line for each kind of failure."""
        if results and all(result["status"] == "missing" for _, result in results):
            self._say_missing(run, results[0][1]["error"])
            return
        self.finished += 1
        if self.bar:
            self.bar.update(self.task, completed=self.finished)
        failures = {r["error"]: r["status"] for _, r in results if r["status"] != "ok"}
        for error, status in failures.items():
            self.say(f"{_name(run)}: {status}: {error}")

    def _say_missing(self, run: Run, error: str) -> None:
        line = f"{_row(run)}: left out: {error}"
        if line not in self.said_missing:
            self.said_missing.add(line)
            self.say(line)

    def say(self, text: str) -> None:
        """Print one line above the bar."""
        self.console.print(text, markup=False)

    def left_now(self) -> str:
        """Return the time left, counted down since the run started; empty if unknown."""
        if self.left_s is None:
            return ""
        return f"{duration(max(0.0, self.left_s - self.since.elapsed_s()))} left"

    def close(self) -> None:
        """Remove the bar."""
        if self.bar:
            self.bar.stop()


def _bar(progress: Progress) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.table import Column
    from rich.text import Text

    class TimeLeft(ProgressColumn):
        """Estimates of the runs that are left, which differ much; rich's own goes by the count."""

        def render(self, task: Task) -> Text:
            return Text(progress.left_now())

    # The name is shortened on a narrow screen; numbers stay whole.
    name = TextColumn(
        "{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True)
    )
    numbers = (BarColumn(16), MofNCompleteColumn(), TimeLeft(Column(no_wrap=True)))
    return Bar(name, *numbers, console=progress.console, expand=True)


def _name(run: Run, row: str = "") -> str:
    """Return block, row and group of a run; `row` replaces the label of its row."""
    block = "calibration" if run.block < 0 else f"block {run.block + 1}"
    return f"{block} · {_row(run, row)}"


def _row(run: Run, row: str = "") -> str:
    """Return row and group of a run, in every block the same if it has the same probes."""
    cell = run.cells[0]
    probes = ", ".join(sorted(c.probe for c in run.cells))
    return f"{row or cell.label} · {replace(cell, probe=probes).group}"
