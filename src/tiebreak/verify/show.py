"""The certificate on a terminal: a bar while it is made, then one table per precision."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def bar(shown: bool, total: int) -> Iterator[Callable[[str], None]]:
    """A function to call with the name of each piece of work as it begins.

    It moves a bar with the time left, on a terminal and if `shown`.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not (shown and console.is_terminal):
        yield lambda name: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task, begun = progress.add_task("starting", total=total), iter(range(total))
        yield lambda name: progress.update(task, description=name, completed=next(begun))


def print_certificate(certificate: dict[str, Any], console: Any) -> None:
    """One table per algorithm and precision: the worst error of every quantity and framework."""
    from rich.markup import escape

    rows = certificate["rows"]
    for key in dict.fromkeys((r["algorithm"], r["precision"]) for r in rows):
        chosen = [r for r in rows if (r["algorithm"], r["precision"]) == key]
        console.print(_table(" · ".join(key), chosen))
        console.print()
    console.print(
        "Errors are |a − b| / max(1, |b|) against the float64 oracle: the worst over modes, cases "
        "and kinds of actions."
    )
    for skip in certificate["skipped"]:
        mode = f" {skip['mode']}" if "mode" in skip else ""
        console.print(f"[yellow]skipped[/] {skip['framework']}{mode}: {escape(skip['reason'])}")
    for row in rows:
        if not row["ok"]:
            where = f"{row['framework']} {row['mode']} {row['precision']} {row['rung']}"
            what = row["reason"] or f"{row['worst']:.1e} > {row['bound']:.0e}"
            text = f"{where} {row['quantity']}: {what} ({row['case']})"
            console.print(f"[red]failed[/]  {escape(text)}")
    verdict = "[green]green[/]" if certificate["green"] else "[red]not green[/]"
    bad = sum(not row["ok"] for row in rows)
    console.print(f"{verdict}: {len(rows)} checks, {bad} failed; seed {certificate['seed']}")


def _table(title: str, rows: list[dict]) -> Any:
    """Bounds and six columns of errors fit in 80: nothing between them, heads of two lines."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    frameworks = list(dict.fromkeys(r["framework"] for r in rows))
    table = Table(title=title, box=SIMPLE_HEAD, show_edge=False, padding=0)
    table.add_column("")
    table.add_column("quantity", overflow="fold")
    for column in ("bound", *frameworks):
        head = {"tensorflow": "tensor\nflow"}.get(column, column.replace(" ", "\n"))
        table.add_column(head, justify="right")
    for rung, quantity in dict.fromkeys(sorted((r["rung"], r["quantity"]) for r in rows)):
        same = [r for r in rows if (r["rung"], r["quantity"]) == (rung, quantity)]
        cells = [_cell([r for r in same if r["framework"] == f]) for f in frameworks]
        table.add_row(rung, quantity, f"{same[0]['bound']:.0e}", *cells)
    return table


def _cell(rows: list[dict]) -> str:
    if not rows:
        return ""
    worst = max(rows, key=lambda r: (not r["ok"], r["worst"]))
    text = "failed" if worst["reason"] else f"{worst['worst']:.1e}"
    return text if worst["ok"] else f"[bold red]{text}[/]"
