"""Lay out a chart of bars as a picture that stands by itself, for slides and papers."""

from __future__ import annotations

from typing import NamedTuple

from tiebreak.report.bars import Bar, BarChart, Ceiling

WIDTH = 760
MARGIN = 22
ROW = 27
LETTER = 7.3
"""Width of a letter of a label; the font is the viewer's, so that this is a guess."""
VALUE = 84
"""Room for the value at the end of the longest bar."""
LINE = 110
"""Letters in a line of notes."""


class Part(NamedTuple):
    """A rectangle of a bar."""

    series: str
    x: float
    width: float
    pale: bool


class Row(NamedTuple):
    """One bar."""

    bar: Bar
    y: float
    parts: tuple[Part, ...]
    line: tuple[float, float] | None
    end: float
    """Where the value begins."""


class Swatch(NamedTuple):
    """One entry of the legend."""

    series: str
    text: str
    x: float


class Line(NamedTuple):
    """An upright line through all bars, and its label below them."""

    ceiling: Ceiling
    x: float
    y: float
    """Where its label stands."""


class Note(NamedTuple):
    """One line below the bars."""

    text: str
    y: float


class Layout(NamedTuple):
    """Positions in pixels."""

    width: int
    height: int
    margin: int
    left: float
    """Where bars begin."""
    legend: tuple[Swatch, ...]
    rows: tuple[Row, ...]
    lines: tuple[Line, ...]
    notes: tuple[Note, ...]


def layout(chart: BarChart) -> Layout:
    """Place everything that the chart shows."""
    longest = max((len(one.name) for one in (*chart.bars, *chart.ceilings)), default=0)
    left = round(MARGIN + LETTER * longest + 10, 1)
    room = WIDTH - MARGIN - VALUE - left
    top = 80 if chart.legend else 54
    rows = tuple(_row(bar, top + ROW * i, left, room) for i, bar in enumerate(chart.bars))
    below = top + ROW * len(rows)
    ceilings = tuple(
        Line(ceiling, x=round(left + room * ceiling.share, 1), y=below + ROW * i)
        for i, ceiling in enumerate(chart.ceilings)
    )
    below += ROW * len(ceilings) + 16
    lines = [line for text in (chart.caption, *chart.notes) for line in _wrapped(text)]
    notes = tuple(Note(line, below + 17 * i) for i, line in enumerate(lines))
    return Layout(
        width=WIDTH,
        height=below + 17 * len(notes) + 2,
        margin=MARGIN,
        left=left,
        legend=_legend(chart),
        rows=rows,
        lines=ceilings,
        notes=notes,
    )


def _row(bar: Bar, y: float, left: float, room: float) -> Row:
    parts = []
    x = left
    for segment in bar.segments:
        width = round(room * segment.share, 1)
        parts.append(Part(segment.series, round(x, 1), width, segment.pale))
        x += width
    line = None
    if bar.whisker:
        line = round(left + room * bar.whisker[0], 1), round(left + room * bar.whisker[1], 1)
        x = max(x, line[1])
    return Row(bar, y, tuple(parts), line, round(x, 1))


def _legend(chart: BarChart) -> tuple[Swatch, ...]:
    swatches = []
    x = float(MARGIN)
    for series, text in chart.legend:
        swatches.append(Swatch(series, text, round(x, 1)))
        x += 17 + LETTER * len(text) + 18
    return tuple(swatches)


def _wrapped(text: str) -> list[str]:
    """Break a text into lines of at most LINE letters."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= LINE:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
