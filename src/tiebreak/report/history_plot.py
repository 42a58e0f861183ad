"""Lay out the small chart of one series of a history, as shares of its width and height.

Lines are drawn as SVG that is stretched to the width of its column, texts as HTML above it, so that
they keep their size on every screen.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from tiebreak.report.formatting import ratio, times
from tiebreak.stats.history import Point, Series

WIDEST = 1.3
"""An interval is drawn to this multiple of the largest ratio, and to its inverse of the smallest;
tables have the true ends."""

LEAST_RANGE = 1.04
"""Largest ratio of a chart to its smallest, at least: noise of a few per mille is to look small."""

PADDING = 0.05
"""Share of the height that is left free above and below."""

MOST_NUMBERS = 10
"""Numbers of folders below a chart."""

LABEL = 34.0
"""Room of a change's label, in percent of the width of the narrowest chart."""


class Mark(NamedTuple):
    """One point with its interval, in percent of the width and of the height from the top."""

    x: float
    y: float
    top: float
    bottom: float
    about: str
    """Folder, ratio and interval."""


class ChangeLine(NamedTuple):
    """An upright line between two points, and its label above the chart."""

    x: float
    text: str
    """By how much the ratio changed, and from which folder on: `1.50× from 4`."""
    row: int
    """0 is next to the chart; labels that would overlap stand in rows of their own."""
    css: str
    """Which end of the label stands at the line: `left`, `middle` or `right`."""


class Level(NamedTuple):
    """A mean between two changes, drawn as a level line."""

    left: float
    right: float
    y: float


class Tick(NamedTuple):
    """A label of an axis."""

    at: float
    text: str


class Plot(NamedTuple):
    """Everything that the chart of a series shows."""

    marks: tuple[Mark, ...]
    line: str
    """Path through the points."""
    levels: tuple[Level, ...]
    """Empty without a change."""
    changes: tuple[ChangeLine, ...]
    label_rows: int
    """Rows of labels above the chart."""
    heights: tuple[Tick, ...]
    numbers: tuple[Tick, ...]


def plot(series: Series, names: Sequence[str]) -> Plot:
    """Place everything that the chart of a series shows.

    Args:
      series: the ratios of a cell.
      names: names of all folders of the history, in order; they share the width evenly.
    """
    low, high = _limits(series.points)
    marks = tuple(_mark(point, names, low, high) for point in series.points)
    changes = tuple(_change_lines(series, marks))
    return Plot(
        marks=marks,
        line="M" + "L".join(f"{mark.x} {mark.y}" for mark in marks),
        levels=tuple(_levels(series, marks, low, high)),
        changes=changes,
        label_rows=max((change.row + 1 for change in changes), default=0),
        heights=tuple(Tick(_height(value, low, high), text) for value, text in _ticks(low, high)),
        numbers=tuple(_numbers(len(names))),
    )


def _limits(points: Sequence[Point]) -> tuple[float, float]:
    """Return the smallest and the largest ratio of a chart."""
    ratios = [point.comparison.ratio for point in points]
    lows = [point.comparison.low or min(ratios) for point in points]
    highs = [point.comparison.high or max(ratios) for point in points]
    low = max(min(lows), min(ratios) / WIDEST)
    high = min(max(highs), max(ratios) * WIDEST)
    missing = max(0.0, math.log(LEAST_RANGE) - math.log(high / low)) / 2
    space = missing + PADDING * (math.log(high / low) + 2 * missing)
    return low * math.exp(-space), high * math.exp(space)


def _height(value: float, low: float, high: float) -> float:
    """Return where a ratio stands, in percent from the top; a ratio and its inverse are as far."""
    share = math.log(high / max(value, 1e-300)) / math.log(high / low)
    return round(100 * min(max(share, 0.0), 1.0), 2)


def _mark(point: Point, names: Sequence[str], low: float, high: float) -> Mark:
    compared = point.comparison
    return Mark(
        x=_place(point.folder, len(names)),
        y=_height(compared.ratio, low, high),
        top=_height(compared.high or compared.ratio, low, high),
        bottom=_height(compared.low or compared.ratio, low, high),
        about=f"{point.folder + 1}, {names[point.folder]}: {ratio(compared)}",
    )


def _place(folder: int, count: int) -> float:
    """Return where a folder stands, in percent of the width."""
    return round(100 * (folder + 0.5) / count, 2)


def _change_lines(series: Series, marks: Sequence[Mark]) -> list[ChangeLine]:
    """Place the changes; a label goes into the first row in which it overlaps none."""
    lines: list[ChangeLine] = []
    ends: list[float] = []
    for change in series.changes:
        x = round((marks[change.before].x + marks[change.before + 1].x) / 2, 2)
        left = min(max(x - LABEL / 2, 0.0), 100 - LABEL)
        row = next((i for i, end in enumerate(ends) if end <= left), len(ends))
        ends[row : row + 1] = [left + LABEL]
        folder = series.points[change.before + 1].folder
        css = "left" if x < LABEL / 2 else "right" if x > 100 - LABEL / 2 else "middle"
        lines.append(ChangeLine(x, f"{times(change.factor)} from {folder + 1}", row, css))
    return lines


def _levels(series: Series, marks: Sequence[Mark], low: float, high: float) -> list[Level]:
    """Place the means before, between and after the changes."""
    if not series.changes:
        return []
    values = [series.changes[0].ratio_before, *(change.ratio_after for change in series.changes)]
    ends = [0, *(change.before + 1 for change in series.changes), len(marks)]
    return [
        Level(marks[first].x, marks[after - 1].x, _height(value, low, high))
        for (first, after), value in zip(itertools.pairwise(ends), values, strict=True)
    ]


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return two to six round ratios between two others, with their texts."""
    least = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(least))
    step = next(power * digit for digit in (1, 2, 5, 10) if power * digit >= least)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(i * step, f"{i * step:.{digits}f}×") for i in range(max(first, 1), last + 1)]


def _numbers(count: int) -> list[Tick]:
    """Return the numbers of some folders, evenly spaced from the first on."""
    step = math.ceil(count / MOST_NUMBERS)
    return [Tick(_place(i, count), str(i + 1)) for i in range(0, count, step)]
