"""Show the certificate on a terminal: a progress bar, then one table per precision."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def bar(shown: bool, total: int) -> Iterator[Callable[[str], None]]:
    """Yield a function to call with the name of each piece of work as it begins.

    It advances a bar with the time left, if `shown` and on a terminal.
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
    """Print a table per algorithm and precision: the worst error of each quantity and framework."""
    from rich.markup import escape

    checks = certificate["rows"]
    for key in dict.fromkeys((c["algorithm"], c["precision"]) for c in checks):
        chosen = [c for c in checks if (c["algorithm"], c["precision"]) == key]
        console.print(_table(" · ".join(key), chosen))
        console.print()
    console.print(
        "Errors are |a − b| / max(1, |b|) against the float64 oracle: the worst over modes, cases "
        "and kinds of actions."
    )
    for skip in certificate["skipped"]:
        mode = f" {skip['mode']}" if "mode" in skip else ""
        console.print(f"[yellow]skipped[/] {skip['framework']}{mode}: {escape(skip['reason'])}")
    failed = [check for check in checks if not check["ok"]]
    for check in failed:
        variant = f"{check['framework']} {check['mode']} {check['precision']} {check['rung']}"
        reason = check["reason"] or f"{check['worst']:.1e} > {check['bound']:.0e}"
        text = f"{variant} {check['quantity']}: {reason} ({check['case']})"
        console.print(f"[red]failed[/]  {escape(text)}")
    verdict = "[green]green[/]" if certificate["green"] else "[red]not green[/]"
    console.print(
        f"{verdict}: {len(checks)} checks, {len(failed)} failed; seed {certificate['seed']}"
    )


def _table(title: str, checks: list[dict]) -> Any:
    """Fit bounds and six columns of errors into 80 characters: no padding, heads of two lines."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    frameworks = list(dict.fromkeys(c["framework"] for c in checks))
    table = Table(title=title, box=SIMPLE_HEAD, show_edge=False, padding=0)
    table.add_column("")
    table.add_column("quantity", overflow="fold")
    for column in ("bound", *frameworks):
        head = {"tensorflow": "tensor\nflow"}.get(column, column.replace(" ", "\n"))
        table.add_column(head, justify="right")
    for rung, quantity in dict.fromkeys(sorted((c["rung"], c["quantity"]) for c in checks)):
        same = [c for c in checks if (c["rung"], c["quantity"]) == (rung, quantity)]
        cells = [_cell([c for c in same if c["framework"] == f]) for f in frameworks]
        table.add_row(rung, quantity, f"{same[0]['bound']:.0e}", *cells)
    return table


def _cell(checks: list[dict]) -> str:
    if not checks:
        return ""
    worst = max(checks, key=lambda c: (not c["ok"], c["worst"]))
    text = "failed" if worst["reason"] else f"{worst['worst']:.1e}"
    return text if worst["ok"] else f"[bold red]{text}[/]"
