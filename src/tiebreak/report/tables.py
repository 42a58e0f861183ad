"""Summaries as terminal tables, one per group, and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tiebreak.core.text import nan_to_null
from tiebreak.report import cross_tables, flags, memory, phrases, published
from tiebreak.report.cross_tables import Sheet
from tiebreak.stats.summaries import CellSummary, GroupSummary

STYLES = {"FASTER": "green", "SLOWER": "red", "SAME": "cyan", "reference": "dim"}
PLAIN_WIDTH = 100


def print_summary(
    summaries: Sequence[GroupSummary], console: Console, elsewhere: Sequence[dict[str, Any]] = ()
) -> None:
    """A table, a headline and notes for every group; what flags mean. Plain when no terminal.

    Behind them what stands side by side; `elsewhere`: the tables that others have published.
    """
    width = console.width
    if not console.is_terminal:
        console.width = max(width, PLAIN_WIDTH)  # nobody's screen: a file must lose nothing
    try:
        several = len({s.fingerprint for s in summaries}) > 1
        for summary in [s for s in summaries if not phrases.absent(s)]:
            machine = f" · machine {summary.fingerprint}" if several else ""
            console.print(Text(summary.group + machine, style="bold"))
            console.print(_table(summary, console.width))
            for line in _notes(summary):
                console.print(line)
            console.print()
        for line in phrases.not_here(summaries):
            console.print(Text(f"✗ {line}\n"))
        for sheet in _sheets(summaries, elsewhere):
            _print_sheet(sheet, console)
        for flag, meaning in phrases.glossary(flags.names(summaries)):
            console.print(Text(f"⚑ {flag}: {meaning}", style="dim"))
    finally:
        console.width = width


def sheets_json(
    summaries: Sequence[GroupSummary], elsewhere: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """What stands side by side, as JSON-ready values: text, as it is printed."""
    return [nan_to_null(sheet._asdict()) for sheet in _sheets(summaries, elsewhere)]


def _sheets(summaries: Sequence[GroupSummary], elsewhere: Sequence[dict[str, Any]]) -> list[Sheet]:
    return [*cross_tables.side_by_side(summaries), *published.sheets(summaries, elsewhere)]


def _print_sheet(sheet: Sheet, console: Console) -> None:
    console.print(Text(sheet.title, style="bold"))
    if sheet.rows:
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        for index, head in enumerate(sheet.heads):
            numeric = index and any(row[index][:1].isdigit() for row in sheet.rows)
            table.add_column(head, justify="right" if numeric else "left", overflow="fold")
        for row in sheet.rows:
            table.add_row(*map(Text, row))
        console.print(table)
    console.print(Text(sheet.about, style="dim"))
    console.print()


def to_json(summaries: Sequence[GroupSummary]) -> list[dict[str, Any]]:
    """Summaries as JSON-ready values, each with its headline; what is not finite becomes None."""
    return [
        {**nan_to_null(dataclasses.asdict(s)), "headline": phrases.headline(s)} for s in summaries
    ]


def _table(group: GroupSummary, width: int) -> Table:
    """In full, or, on a narrow terminal, closer together and without the time per unit."""
    full = width >= PLAIN_WIDTH
    table = Table(box=SIMPLE_HEAD, padding=(0, int(full), 0, 0), pad_edge=False, show_edge=full)
    table.add_column("#", justify="right", style="dim")
    table.add_column("cell", min_width=16, overflow="fold")
    per_s = f"{group.unit}/s".replace(" ", "\n", 1)
    heads = (per_s, "time per\nunit", "ratio [95 %]", "verdict", "first\ncall", "peak\nmemory")
    for head in heads if full else (heads[0], *heads[2:]):
        justify = "left" if head == "verdict" else "right"
        table.add_column(head, justify=justify, no_wrap=True)
    for rank, summary in enumerate(group.cells, 1):
        row = _row(rank, summary, group)
        table.add_row(*(row if full else row[:3] + row[4:]))
    return table


def _row(rank: int, summary: CellSummary, group: GroupSummary) -> list[Text]:
    name = Text(phrases.name(summary), style="bold" if summary.cell_id == group.leader else "")
    if summary.flags:
        name.append("\u00a0⚑", style="yellow")
    verdict = phrases.verdict(summary, group)
    if summary.cell_id == group.reference:
        ratio = "1"
    else:
        ratio = phrases.ratio(summary.comparison) if summary.comparison else phrases.DASH
    return [
        Text(str(rank) if summary.visits else phrases.DASH),
        name,
        Text(phrases.si(summary.units_per_s) if summary.units_per_s else phrases.DASH),
        Text(phrases.duration(summary.seconds_per_unit)),
        Text(ratio),
        Text(verdict, style=STYLES.get(verdict, "yellow")),
        Text(phrases.duration(summary.phases_s.get("first_call"))),
        Text(phrases.size(summary.memory_bytes) + (" ↗" if memory.grows(summary) else "")),
    ]


def _notes(group: GroupSummary) -> list[Text]:
    """Headline, power, unrest, flags and failures."""
    notes = [
        Text(f"→ {phrases.headline(group)}", style="bold"),
        Text(f"  {phrases.confidence(group)}", style="dim"),
    ]
    if thousand := cross_tables.per_thousand(group):
        notes.append(Text(f"  {thousand}"))
    if leaks := memory.leaks(group):
        notes.insert(0, Text(f"→ {leaks}", style="bold"))
    if unrest := phrases.unrest(group):
        notes.append(Text(f"  ⚑ {unrest}", style="yellow"))
    for summary in group.cells:
        if summary.flags:
            text = f"  ⚑ {phrases.name(summary)}: {phrases.flags(summary)}"
            notes.append(Text(text, style="yellow"))
        for failure in summary.failures:
            text = f"  ✗ {phrases.name(summary)}: {phrases.failure(failure)}"
            notes.append(Text(text, style="red"))
    return notes
