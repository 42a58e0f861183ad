"""The answer in the terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tiebreak.report import phrases
from tiebreak.report.answer import Answer, Card, TrainingTime, work
from tiebreak.report.formatting import DASH, about_time

STYLES = {"TIE": "cyan", "SURE": "green", "LIKELY": "yellow", "UNKNOWN": "red"}
"""Style of each confidence."""

HEADINGS = ("framework", "{work}", "95 % interval", "of which to start and compile")
"""Headings of a table of times."""


def print_answer(answer: Answer, console: Console) -> None:
    """Print the answer: one sentence, a table of times for each task, and what is not known."""
    console.print(Text(answer.title, style="bold"))
    console.print()
    for card in answer.cards:
        head = Text(f"{card.confidence} ", style=STYLES[card.confidence])
        head.append(card.title, style="bold")
        head.append(f" ({card.about})", style="dim")
        console.print(head)
        console.print(Text(card.sentence))
        if card.break_even:
            console.print(Text(card.break_even))
        console.print(_times(card))
        for line in ceilings(card):
            console.print(Text(f"┊ {line}", style="dim"))
        console.print()
    for line in notes(answer):
        console.print(Text(line, style="dim"))


def notes(answer: Answer) -> Iterator[str]:
    """Yield what the answer leaves open, and what it rests on."""
    if answer.limits:
        more = ""
        if answer.command:
            about = f" ({answer.command_about})" if answer.command_about else ""
            more = f" To see more: {answer.command}{about}"
        yield answer.limits + more
    if answer.controls:
        yield answer.controls
    yield f"The frameworks: {answer.proof}."
    yield from answer.differences


def _times(card: Card) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    for heading in HEADINGS:
        justify = "left" if heading == HEADINGS[0] else "right"
        table.add_column(heading.format(work=work(card.group.unit)[1]), justify=justify)
    for row in rows(card):
        table.add_row(*map(Text, row))
    return table


def rows(card: Card) -> list[tuple[str, ...]]:
    """Return the times of a card as text, under HEADINGS, the shortest first."""
    return [_row(time) for time in sorted(card.times, key=lambda time: time.total_s)]


def ceilings(card: Card) -> list[str]:
    """Return a line for each cell of another engine that is shown beside a card."""
    return [
        f"{time.name}: {about_time(time.total_s)} ({phrases.NOT_COMPARABLE})"
        for time in card.ceilings
    ]


def _row(time: TrainingTime) -> tuple[str, ...]:
    """Return one framework's times as text, under HEADINGS; the page has the same numbers."""
    interval = DASH
    if time.low_s is not None and time.high_s is not None:
        low, high = about_time(time.start_s + time.low_s), about_time(time.start_s + time.high_s)
        interval = f"{low} to {high}"
    name = f"{time.name} ⚑ {', '.join(time.barred)}" if time.barred else time.name
    return name, about_time(time.total_s), interval, about_time(time.start_s)


def to_markdown(answer: Answer) -> str:
    """Return the answer as GitHub Markdown."""
    lines = [f"**{_escaped(answer.title)}**", ""]
    for card in answer.cards:
        lines += [*card_to_markdown(card), ""]
    lines += [f"- {_escaped(note)}" for note in notes(answer)]
    return "\n".join(lines) + "\n"


def card_to_markdown(card: Card) -> list[str]:
    """Return the answer for one group as lines of GitHub Markdown."""
    lines = [f"### {_escaped(card.title)} ({_escaped(card.about)}): {card.confidence}", ""]
    lines += [_escaped(card.sentence), ""]
    lines += [_escaped(card.break_even), ""] if card.break_even else []
    headings = [heading.format(work=work(card.group.unit)[1]) for heading in HEADINGS]
    lines += markdown_table(headings, rows(card))
    lines += ["", *(f"- {_escaped(line)}" for line in ceilings(card))] if card.ceilings else []
    return lines


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, numbers on the right."""
    marks = ["---", *["---:"] * (len(headings) - 1)]
    table = [headings, marks, *rows]
    return [f"| {' | '.join(_escaped(cell) for cell in line)} |" for line in table]


def _escaped(text: str) -> str:
    """Return text that Markdown shows as it is."""
    for character in "\\`*_<>|[]":
        text = text.replace(character, f"\\{character}")
    return text
