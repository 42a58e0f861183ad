"""What a running suite shows: a bar on a terminal, one plain line per visit on stderr elsewhere."""

from __future__ import annotations

from typing import Any

from tiebreak.bench.plan import Visit


class Progress:
    """How far a run is. `shown=False` shows nothing at all."""

    def __init__(self, visits: int, shown: bool = True):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.console = Console(stderr=True, quiet=not shown, soft_wrap=True, highlight=False)
        self.total, self.count = visits, 0
        self.bar = None
        if shown and self.console.is_terminal:
            what = TextColumn("{task.description}", markup=False)
            columns = (what, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bar = Bar(*columns, console=self.console, speed_estimate_period=600)
            self.task = self.bar.add_task("starting", total=visits)
            self.bar.start()

    def start(self, visit: Visit) -> None:
        """A visit begins."""
        if self.bar:
            self.bar.update(self.task, description=_name(visit))

    def finish(self, visit: Visit, results: list[tuple[Any, dict[str, Any]]]) -> None:
        """A visit is over; what failed in it is said in a line of its own."""
        self.count += 1
        if self.bar:
            self.bar.update(self.task, completed=self.count)
        else:
            self.say(f"[{self.count}/{self.total}] {_name(visit)}")
        failed = {r["error"]: r["status"] for _, r in results if r["status"] != "ok"}
        for error, status in failed.items():
            self.say(f"{_name(visit)}: {status}: {error}")

    def say(self, text: str) -> None:
        """One line above the bar."""
        self.console.print(text, markup=False)

    def close(self) -> None:
        """Take the bar away."""
        if self.bar:
            self.bar.stop()


def _name(visit: Visit) -> str:
    cell = visit.cells[0]
    probes = ", ".join(c.probe for c in visit.cells)
    block = "calibration" if visit.block < 0 else f"block {visit.block + 1}"
    return f"{block} · {cell.task} · {cell.label} · {probes}"
