"""Results of the self-test as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tiebreak.core.text import duration, plural

if TYPE_CHECKING:
    from rich.console import Console

Record = Mapping[str, Any]

MARKS = {True: "passed", False: "FAILED", None: "skipped"}
STYLES = {True: "green", False: "bold red", None: "yellow"}
PLAIN_WIDTH = 100


def print_checks(records: Iterable[Record], console: Console) -> None:
    """Print a table of the self-test's records: name, rule, measurement, result, time taken."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    checks = [r for r in records if r.get("kind") == "selftest"]
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("check", "passes when", "measured", "", "took"):
        justify = "right" if heading == "took" else "left"
        table.add_column(heading, justify=justify, overflow="fold")
    for r in checks:
        result = Text(mark(r["passed"]), style=STYLES[r["passed"]])
        table.add_row(
            Text(r["row"]), Text(r["rule"]), Text(r["detail"]), result, duration(r["seconds"])
        )
    width = console.width
    if not console.is_terminal:
        console.width = max(width, PLAIN_WIDTH)  # in a file, nothing may be cut off
    try:
        console.print(table)
        console.print(Text(summary(checks)))
    finally:
        console.width = width


def summary(checks: Iterable[Record]) -> str:
    """Return the counts of results: `11 checks passed, 1 failed (hog), 1 skipped (traps)`."""
    names: dict[bool | None, list[str]] = {True: [], False: [], None: []}
    for r in checks:
        names[r["passed"]].append(r["row"])
    parts = [f"{plural(len(names[True]), 'check')} passed"]
    for passed, word in ((False, "failed"), (None, "skipped")):
        if names[passed]:
            parts.append(f"{len(names[passed])} {word} ({', '.join(names[passed])})")
    return ", ".join(parts)


def failures(records: Iterable[Record]) -> list[str]:
    """Return one line for each failed check: `name: detail`."""
    checks = (r for r in records if r.get("kind") == "selftest")
    return [f"{r['row']}: {r['detail']}" for r in checks if r["passed"] is False]


def mark(passed: bool | None) -> str:
    """Return passed, FAILED or skipped."""
    return MARKS[passed]
