"""The self-test's rows as a table for a terminal, and what of them failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tiebreak.core.text import duration

if TYPE_CHECKING:
    from rich.console import Console

MARKS = {True: "passed", False: "FAILED", None: "skipped"}
STYLES = {True: "green", False: "bold red", None: "yellow"}
PLAIN_WIDTH = 100


def print_rows(records: Iterable[Mapping[str, Any]], console: Console) -> None:
    """A table of the records of kind selftest: row, rule, what was measured, whether it passed."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    rows = [r for r in records if r.get("kind") == "selftest"]
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for head in ("row", "passes when", "measured", "", "took"):
        table.add_column(head, justify="right" if head == "took" else "left", overflow="fold")
    for r in rows:
        passed = Text(mark(r["passed"]), style=STYLES[r["passed"]])
        took = duration(r["seconds"])
        table.add_row(Text(r["row"]), Text(r["rule"]), Text(r["detail"]), passed, took)
    width = console.width
    if not console.is_terminal:
        console.width = max(width, PLAIN_WIDTH)  # nobody's screen: a file must lose nothing
    try:
        console.print(table)
        console.print(Text(summary(rows)))
    finally:
        console.width = width


def summary(rows: Iterable[Mapping[str, Any]]) -> str:
    """How many rows ended how, e.g. `11 rows passed, 1 failed (hog), 1 skipped (traps)`."""
    ended: dict[bool | None, list[str]] = {True: [], False: [], None: []}
    for r in rows:
        ended[r["passed"]].append(r["row"])
    parts = [f"{len(ended[True])} rows passed"]
    for passed, word in ((False, "failed"), (None, "skipped")):
        if ended[passed]:
            parts.append(f"{len(ended[passed])} {word} ({', '.join(ended[passed])})")
    return ", ".join(parts)


def failures(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line for each row that failed, as `row: detail`."""
    rows = (r for r in records if r.get("kind") == "selftest")
    return [f"{r['row']}: {r['detail']}" for r in rows if r["passed"] is False]


def mark(passed: bool | None) -> str:
    """passed, FAILED or skipped."""
    return MARKS[passed]
