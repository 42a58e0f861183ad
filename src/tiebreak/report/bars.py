"""Charts of bars as shares of their width: drawn as HTML on the page, and as SVG for files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tiebreak.report.answer import Card, TrainingTime, work
from tiebreak.report.flags import explain
from tiebreak.report.formatting import about_time, measured_time
from tiebreak.report.palette import framework_series, machine_series
from tiebreak.stats.summaries import CellSummary, GroupSummary

PARTS = "pale: starting and compiling"
WHISKER = "; line: 95 % interval"
CEILING = "; upright line: another simulator, not comparable"
START_UP = {"import": "import", "build": "build", "first_call": "first call", "warmup": "warm-up"}
"""Phases of a run before its first sample, and their names for readers."""
WIDEST = 1.6
"""An interval, or a ceiling, is drawn to this multiple of the longest bar; its text has the true
value."""


class Segment(NamedTuple):
    """A part of a bar."""

    series: str
    """Name of its color in palette.SERIES."""
    share: float
    """Length as a share of the chart's width."""
    pale: bool = False


class Bar(NamedTuple):
    """One bar with its label."""

    name: str
    segments: tuple[Segment, ...]
    text: str
    """Value that stands at the end of the bar."""
    whisker: tuple[float, float] | None = None
    """Ends of the interval, as shares of the chart's width."""
    about: str = ""
    """Interval and parts in words."""
    barred: bool = False
    """True if the cell is kept out of conclusions."""

    @property
    def length(self) -> float:
        """Length of all segments, as a share of the chart's width."""
        return sum(segment.share for segment in self.segments)


class Ceiling(NamedTuple):
    """A cell of another engine, drawn as an upright line through all bars."""

    name: str
    share: float
    """Place of the line, as a share of the chart's width."""
    text: str
    """Time that stands beside it."""


class BarChart(NamedTuple):
    """Bars on one scale that starts at zero."""

    name: str
    """What it is of, such as a task."""
    unit: str
    """What is counted: `steps`."""
    bars: tuple[Bar, ...]
    caption: str
    legend: tuple[tuple[str, str], ...] = ()
    """(series, its meaning)."""
    notes: tuple[str, ...] = ()
    """Cells that are kept out of conclusions, and why."""
    ceilings: tuple[Ceiling, ...] = ()

    @property
    def title(self) -> str:
        """Question that the chart answers."""
        units, words = work(self.unit)
        return f"{self.name}: how long {'does' if units == 1 else 'do'} {words} take?"


def time_chart(name: str, card: Card) -> BarChart:
    """Draw how long a million units of work take in every cell of a group, shortest first."""
    scale_s = _scale_s(card.times, card.ceilings)
    times = sorted(card.times, key=lambda one: one.total_s)
    return BarChart(
        name=name,
        unit=unit_words(card.group),
        bars=tuple(
            _time_bar(
                name=one.name,
                one=one,
                scale_s=scale_s,
                series=framework_series(one.cell.cell["framework"]),
            )
            for one in times
        ),
        caption=_caption(unit_words(card.group), card.times, bool(card.ceilings)),
        notes=_notes(card.times),
        ceilings=tuple(_ceiling(one, scale_s) for one in card.ceilings),
    )


def machines_chart(
    name: str,
    group: GroupSummary,
    rows: Mapping[str, Mapping[str, TrainingTime]],
    machines: Sequence[str],
) -> BarChart:
    """Draw the same for several machines, a color for each.

    Args:
      name: name of the task.
      group: one of its groups.
      rows: {name of a cell: {name of a machine: its time}}.
      machines: names of all machines of the page; each has the color of its place in every chart.
    """
    every = [one for times in rows.values() for one in times.values()]
    raced = {machine for times in rows.values() for machine in times}
    scale_s = _scale_s(every)
    bars = []
    for label, times in rows.items():
        shown = label
        for machine, one in times.items():
            bars.append(_time_bar(shown, one, scale_s, machine_series(machines.index(machine))))
            shown = ""  # a cell is named once, at its first machine
    return BarChart(
        name=name,
        unit=unit_words(group),
        bars=tuple(bars),
        caption=_caption(unit_words(group), every),
        legend=tuple(
            (machine_series(i), machine) for i, machine in enumerate(machines) if machine in raced
        ),
        notes=tuple(
            note
            for label, times in rows.items()
            for machine, one in times.items()
            for note in _notes([one._replace(name=f"{label} on {machine}")])
        ),
    )


def unit_words(group: GroupSummary) -> str:
    """Return what a group counts: `steps` of environments, `gradient steps`, `actions`."""
    return group.unit.removeprefix("env ")


def _caption(unit: str, times: Iterable[TrainingTime], ceilings: bool = False) -> str:
    whisker = WHISKER if any(one.high_s is not None for one in times) else ""
    return f"time for {work(unit)[1]}; {PARTS}{whisker}{CEILING if ceilings else ''}"


def _ceiling(one: TrainingTime, scale_s: float) -> Ceiling:
    """Place a line; one that is far longer than all bars stands at the end of the chart."""
    text = about_time(one.total_s)
    if one.total_s > scale_s:
        return Ceiling(one.name, 1.0, f"{text}, beyond")
    return Ceiling(one.name, one.total_s / scale_s, text)


def start_up_bars(group: GroupSummary) -> dict[str, tuple[Bar, ...]]:
    """Return {cell_id: one bar of what happens before the first sample}, on one scale.

    Empty for a cell that never finished.
    """
    longest_s = max((_start_up_s(cell) for cell in group.cells), default=0.0) or 1.0
    bars = {}
    for cell in group.cells:
        phases = [phase for phase in START_UP if phase in cell.phases_s]
        segments = tuple(Segment(phase, cell.phases_s[phase] / longest_s) for phase in phases)
        text = measured_time(_start_up_s(cell))
        bars[cell.cell_id] = (Bar(name="", segments=segments, text=text),) if phases else ()
    return bars


def _start_up_s(cell: CellSummary) -> float:
    return sum(cell.phases_s.get(phase, 0.0) for phase in START_UP)


def _notes(times: Iterable[TrainingTime]) -> tuple[str, ...]:
    """Say of each barred cell what happened to it."""
    return tuple(
        f"{one.name} is kept out of conclusions: {explain(one.barred)}"
        for one in times
        if one.barred
    )


def _scale_s(times: Iterable[TrainingTime], ceilings: Iterable[TrainingTime] = ()) -> float:
    """Return the seconds that are as long as the chart is wide."""
    times = list(times)
    longest_s = max((one.total_s for one in times), default=0.0)
    ends_s = [one.start_s + one.high_s for one in times if one.high_s is not None]
    ends_s += [one.total_s for one in ceilings]
    return max([longest_s, *(min(end, WIDEST * longest_s) for end in ends_s)]) or 1.0


def _time_bar(name: str, one: TrainingTime, scale_s: float, series: str) -> Bar:
    whisker = None
    about = f"of which {about_time(one.start_s)} to start and compile"
    if one.low_s is not None and one.high_s is not None:
        ends_s = one.start_s + one.low_s, one.start_s + one.high_s
        whisker = ends_s[0] / scale_s, min(ends_s[1] / scale_s, 1.0)
        about = f"95 %: {about_time(ends_s[0])} to {about_time(ends_s[1])}, {about}"
    return Bar(
        name=name,
        segments=(
            Segment(series, one.start_s / scale_s, pale=True),
            Segment(series, one.steady_s / scale_s),
        ),
        text=about_time(one.total_s),
        whisker=whisker,
        about=about,
        barred=bool(one.barred),
    )
