"""What a running suite shows on stderr: what is measured now, what is left, and for how long.

On a terminal this is a bar whose time left counts down, elsewhere one plain line per visit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tiebreak.bench.suite.plan import Visit
from tiebreak.bench.worker.clock import Timer
from tiebreak.core.text import duration

if TYPE_CHECKING:
    from rich.progress import Task


class Progress:
    """How far a run is. `shown=False` shows nothing at all."""

    def __init__(self, visits: int, shown: bool = True):
        from rich.console import Console

        self.console = Console(stderr=True, quiet=not shown, soft_wrap=True, highlight=False)
        self.total, self.begun, self.count = visits, 0, 0
        """Visits that are to be made, those that have begun, those that are over."""
        self.left_s: float | None = None
        """What the run needed when `since` began; None when nobody knows."""
        self.since = Timer()
        self.bar = _bar(self) if shown and self.console.is_terminal else None
        if self.bar:
            self.task = self.bar.add_task("starting", total=visits)
            self.bar.start()

    def add(self, visits: int) -> None:
        """There is more to do than was known: further blocks, say."""
        self.total += visits
        if self.bar:
            self.bar.update(self.task, total=self.total)

    def start(self, visit: Visit, left_s: float | None = None, turns: int = 1) -> None:
        """A visit begins, one of so many that take turns; what is left will take `left_s`."""
        self.left_s, self.since = left_s, Timer()
        self.begun += 1
        if self.bar:
            row = f"{turns} rows in turns" if turns > 1 else ""
            self.bar.update(self.task, description=_name(visit, row))
        else:
            left = "" if left_s is None else f", {duration(left_s)} left"
            self.say(f"[{self.begun}/{self.total}{left}] {_name(visit)}")

    def finish(self, visit: Visit, results: list[tuple[Any, dict[str, Any]]]) -> None:
        """A visit is over; what failed in it is said in a line of its own."""
        self.count += 1
        if self.bar:
            self.bar.update(self.task, completed=self.count)
        failed = {r["error"]: r["status"] for _, r in results if r["status"] != "ok"}
        for error, status in failed.items():
            self.say(f"{_name(visit)}: {status}: {error}")

    def say(self, text: str) -> None:
        """One line above the bar."""
        self.console.print(text, markup=False)

    def left_now(self) -> str:
        """The time left, counted down since the visit began; empty when nobody knows."""
        if self.left_s is None:
            return ""
        return f"{duration(max(0.0, self.left_s - self.since.elapsed_s()))} left"

    def close(self) -> None:
        """Take the bar away."""
        if self.bar:
            self.bar.stop()


def _bar(progress: Progress) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.table import Column
    from rich.text import Text

    class TimeLeft(ProgressColumn):
        """From estimates of the visits that are left, which differ much; rich goes by the count."""

        def render(self, task: Task) -> Text:
            return Text(progress.left_now())

    # The name gives way on a narrow screen; numbers stay whole.
    what = TextColumn(
        "{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True)
    )
    numbers = (BarColumn(16), MofNCompleteColumn(), TimeLeft(Column(no_wrap=True)))
    return Bar(what, *numbers, console=progress.console, expand=True)


def _name(visit: Visit, row: str = "") -> str:
    """Which visit: the block, the row (or what is said of it), and the group that it is for."""
    cell = visit.cells[0]
    block = "calibration" if visit.block < 0 else f"block {visit.block + 1}"
    group = replace(cell, probe=", ".join(c.probe for c in visit.cells)).group
    return f"{block} · {row or cell.label} · {group}"
