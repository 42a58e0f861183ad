"""Summaries as terminal tables, one per group, and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tiebreak.core.text import nan_to_null
from tiebreak.report import answer, cross_tables, memory, phrases, published
from tiebreak.report.cross_tables import CrossTable
from tiebreak.report.flags import describe_flags, flag_names, glossary
from tiebreak.report.formatting import DASH, measured_time, ratio, si, size
from tiebreak.stats.summaries import CellSummary, GroupSummary

STYLES = {"FASTER": "green", "SLOWER": "red", "SAME": "cyan", "reference": "dim"}
PLAIN_WIDTH = 100
"""Width of a table that is written to a file."""


def print_summary(
    summaries: Sequence[GroupSummary],
    console: Console,
    published_tables: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Print a table, a headline and notes for every group, then cross tables and flag meanings.

    Plain text of full width if the console is not a terminal: a file must lose nothing.

    published_tables: values that others have published, from the suite.
    """
    width = console.width
    if not console.is_terminal:
        console.width = max(width, PLAIN_WIDTH)
    try:
        several_machines = len({s.fingerprint for s in summaries}) > 1
        for summary in summaries:
            if not phrases.why_absent(summary):
                _print_group(summary, console, several_machines)
        for line in phrases.absent_groups(summaries):
            console.print(Text(f"✗ {line}\n"))
        for table in _cross_tables(summaries, published_tables):
            _print_cross_table(table, console)
        for flag, meaning in glossary(flag_names(summaries)):
            console.print(Text(f"⚑ {flag}: {meaning}", style="dim"))
    finally:
        console.width = width


def _print_group(group: GroupSummary, console: Console, several_machines: bool) -> None:
    machine = f" · machine {group.fingerprint}" if several_machines else ""
    console.print(Text(group.group + machine, style="bold"))
    console.print(_table(group, console.width))
    for line in _notes(group):
        console.print(line)
    console.print()


def sheets_json(
    summaries: Sequence[GroupSummary], published_tables: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the cross tables as JSON-ready text."""
    return [
        {
            "title": table.title,
            "about": table.note,
            "heads": list(table.headings),
            "rows": [list(row) for row in table.rows],
        }
        for table in _cross_tables(summaries, published_tables)
    ]


def _cross_tables(
    summaries: Sequence[GroupSummary], published_tables: Sequence[Mapping[str, Any]]
) -> list[CrossTable]:
    ours = cross_tables.cross_tables(summaries)
    return ours + published.cross_tables(summaries, published_tables)


def _print_cross_table(cross: CrossTable, console: Console) -> None:
    console.print(Text(cross.title, style="bold"))
    if cross.rows:
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        for index, heading in enumerate(cross.headings):
            numeric = index > 0 and any(row[index][:1].isdigit() for row in cross.rows)
            table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
        for row in cross.rows:
            table.add_row(*map(Text, row))
        console.print(table)
    console.print(Text(cross.note, style="dim"))
    console.print()


def to_json(summaries: Sequence[GroupSummary]) -> list[dict[str, Any]]:
    """Return summaries as JSON-ready values, each with its headline."""
    return [
        {**nan_to_null(dataclasses.asdict(summary)), "headline": answer.sentence(summary)}
        for summary in summaries
    ]


def _table(group: GroupSummary, width: int) -> Table:
    """Build a group's table; on a narrow terminal closer together and without time per unit."""
    full = width >= PLAIN_WIDTH
    table = Table(box=SIMPLE_HEAD, padding=(0, int(full), 0, 0), pad_edge=False, show_edge=full)
    table.add_column("#", justify="right", style="dim")
    table.add_column("cell", min_width=16, overflow="fold")
    rate = f"{group.unit}/s".replace(" ", "\n", 1)
    headings = [rate, "time per\nunit", "ratio [95 %]", "verdict", "first\ncall", "peak\nmemory"]
    if not full:
        headings.remove("time per\nunit")
    for heading in headings:
        justify = "left" if heading == "verdict" else "right"
        table.add_column(heading, justify=justify, no_wrap=True)
    for rank, summary in enumerate(group.cells, 1):
        row = _row(rank, summary, group)
        table.add_row(*(row if full else row[:3] + row[4:]))
    return table


def _row(rank: int, summary: CellSummary, group: GroupSummary) -> list[Text]:
    name = Text(phrases.name(summary), style="bold" if summary.cell_id == group.leader else "")
    if summary.flags:
        name.append("\u00a0⚑", style="yellow")
    if summary.cell_id == group.reference:
        relative = "1"
    else:
        relative = ratio(summary.comparison) if summary.comparison else DASH
    verdict = phrases.verdict(summary, group)
    return [
        Text(str(rank) if summary.visits else DASH),
        name,
        Text(si(summary.units_per_s) if summary.units_per_s else DASH),
        Text(measured_time(summary.seconds_per_unit)),
        Text(relative),
        Text(verdict, style=STYLES.get(verdict, "yellow")),
        Text(measured_time(summary.phases_s.get("first_call"))),
        Text(size(summary.memory_bytes) + (" ↗" if memory.grows(summary) else "")),
    ]


def _notes(group: GroupSummary) -> Iterator[Text]:
    """Yield leaks, headline, confidence, drift, flags and failures."""
    if leaks := memory.leaks(group):
        yield Text(f"→ {leaks}", style="bold")
    yield Text(f"→ {answer.sentence(group)}", style="bold")
    yield Text(f"  {phrases.confidence(group)}", style="dim")
    if per_thousand := cross_tables.per_thousand(group):
        yield Text(f"  {per_thousand}")
    if drift := phrases.drift(group):
        yield Text(f"  ⚑ {drift}", style="yellow")
    for summary in group.cells:
        name = phrases.name(summary)
        if summary.flags:
            yield Text(f"  ⚑ {name}: {describe_flags(summary)}", style="yellow")
        for failure in summary.failures:
            yield Text(f"  ✗ {name}: {phrases.failure(failure)}", style="red")
