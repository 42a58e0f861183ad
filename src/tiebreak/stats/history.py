"""Follow the ratio of a cell over several results folders, and mark where it changed.

Within a folder a ratio is paired by block. Between folders nothing is paired: each point is an
estimate with its own error, widened by what two folders of one program may differ by. A change is
found by binary segmentation (docs/decisions/0066).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tiebreak.stats.compare import HIDDEN_SHIFT
from tiebreak.stats.hardware_diff import Machine, hardware_id
from tiebreak.stats.intervals import LEVEL, MARGIN
from tiebreak.stats.ratios import summarize
from tiebreak.stats.summaries import Comparison

NORMAL_95 = 1.959964
"""Half the width of a normal 95 % interval, in standard errors."""

LEAST_FOR_SCATTER = 6
"""Points from which on the scatter between neighbours is used, where it is larger."""

FEW = 8.0
"""The scatter between neighbours is multiplied by 1 + FEW / points: it is less certain the fewer
there are. Simulated series of 6 to 40 restless points without a change are marked in 2 to 8 % of
cases with it, and in 3 to 18 % without it."""

MEDIAN_CHI2 = 0.4549
"""Median of chi-squared with one degree of freedom."""


class Point(NamedTuple):
    """A cell's ratio in one folder."""

    folder: int
    """Number of the folder in the order given, from 0."""
    fingerprint: str
    comparison: Comparison

    @property
    def error(self) -> float:
        """Standard error of ln ratio; Student's wider interval of few blocks makes it larger."""
        return (self.comparison.half_width or math.inf) / NORMAL_95


class Change(NamedTuple):
    """A place between two points where the ratio changed."""

    before: int
    """Index of the last point before it, in the series; the next one is after it."""
    ratio_before: float
    """Weighted mean of the points back to the change before; `ratio_after` likewise."""
    ratio_after: float
    p: float
    """Corrected for the places where it could have been, and for the number of series."""

    @property
    def factor(self) -> float:
        """How many times as large the ratio has become."""
        return self.ratio_after / self.ratio_before


class SeriesKey(NamedTuple):
    """What the points of one series have in common."""

    group: str
    label: str
    reference: str
    """Label of the cell that it is relative to."""
    framework: str
    hardware: str
    """Digest of the machine without its software."""


class Series(NamedTuple):
    """The history of one cell relative to its group's reference, on one kind of hardware.

    Its first fields are those of SeriesKey.
    """

    group: str
    label: str
    reference: str
    framework: str
    hardware: str
    points: tuple[Point, ...]
    changes: tuple[Change, ...] = ()

    def change_at(self, index: int) -> Change | None:
        """Return the change that a point is the first one after; None for all others."""
        return next((change for change in self.changes if change.before + 1 == index), None)


def histories(
    folders: Sequence[Sequence[dict]], relative_to: str | None = None, level: float = LEVEL
) -> list[Series]:
    """Return the series of all cells that at least two folders have, with their changes.

    Args:
      folders: records of each folder, in the order of the history.
      relative_to: label or framework of the cell that ratios are relative to; None: torch's, else
        the first by label, as everywhere. Where it differs between folders, there are two series.
      level: probability of marking any change at all where nothing changed.
    """
    points: dict[SeriesKey, list[Point]] = {}
    for number, records in enumerate(folders):
        for key, point in _points(number, records, relative_to):
            points.setdefault(key, []).append(point)
    several = {key: found for key, found in points.items() if len(found) > 1}
    return [
        Series(*key, points=tuple(found), changes=find_changes(found, level, len(several)))
        for key, found in several.items()
    ]


def series_of(records: Sequence[dict], relative_to: str | None = None) -> list[SeriesKey]:
    """Return the series that one folder has a point of."""
    return [key for key, _ in _points(0, records, relative_to)]


def _points(
    number: int, records: Sequence[dict], relative_to: str | None
) -> list[tuple[SeriesKey, Point]]:
    """Return (key of its series, point) of each cell of a folder that has an interval."""
    machines: Mapping[str, Machine] = {
        r["fingerprint"]: r["machine"] for r in records if r["kind"] == "machine"
    }
    found = []
    for group in summarize(records, relative_to):
        reference = group.find(group.reference)
        if reference is None or reference.barred:
            continue
        hardware = hardware_id(machines.get(group.fingerprint, {}))
        for cell in group.cells:
            width = cell.comparison.half_width if cell.comparison else None
            if cell.comparison and width and math.isfinite(width) and not cell.barred:
                framework = str(cell.cell["framework"])
                key = SeriesKey(group.group, cell.label, reference.label, framework, hardware)
                found.append((key, Point(number, group.fingerprint, cell.comparison)))
    return found


def find_changes(
    points: Sequence[Point], level: float = LEVEL, family: int = 1
) -> tuple[Change, ...]:
    """Return the changes of a series, in order.

    The place where the weighted means of the points on either side differ most, in standard errors,
    is a change if that is unlikely by chance and the means differ by more than 2 %. Both sides are
    searched on.

    Args:
      points: in the order of the history.
      level: probability of any change in `family` series without one.
      family: number of series that are searched.
    """
    values = np.log([point.comparison.ratio for point in points])
    variances = _variances(values, np.array([point.error for point in points]))
    places = sorted(_places(values, variances, 0, len(values), level / family))
    ends = [0, *(place for place, _ in places), len(values)]
    means = [
        float(np.average(values[a:b], weights=1 / variances[a:b]))
        for a, b in itertools.pairwise(ends)
    ]
    return tuple(
        Change(place - 1, math.exp(before), math.exp(after), min(1.0, p * family))
        for (place, p), (before, after) in zip(places, itertools.pairwise(means), strict=True)
    )


def _variances(values: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return the variance of each point about its true ratio.

    Beside its own error this is how much two folders of one program differ: at least HIDDEN_SHIFT,
    or what neighbours show. Their median squared difference hardly heeds a few changes.
    """
    between = HIDDEN_SHIFT**2
    if len(values) >= LEAST_FOR_SCATTER:
        neighbours = float(np.median(np.diff(values) ** 2)) / MEDIAN_CHI2 / 2
        neighbours *= 1 + FEW / len(values)
        between = max(between, neighbours - float(np.median(errors**2)))
    return errors**2 + between


def _places(
    values: np.ndarray, variances: np.ndarray, start: int, end: int, level: float
) -> list[tuple[int, float]]:
    """Return (index of the first point after it, p) of each change between `start` and `end`."""
    count = end - start
    if count < 2:
        return []
    weights = 1 / variances[start:end]
    sums = np.cumsum(weights * values[start:end])
    totals = np.cumsum(weights)
    before, after = totals[:-1], totals[-1] - totals[:-1]
    differences = (sums[-1] - sums[:-1]) / after - sums[:-1] / before
    z = np.abs(differences) / np.sqrt(1 / before + 1 / after)
    best = int(np.argmax(z))
    p = min(1.0, (count - 1) * math.erfc(float(z[best]) / math.sqrt(2)))
    if p > level or abs(differences[best]) <= MARGIN:
        return []
    place = start + best + 1
    return [
        (place, p),
        *_places(values, variances, start, place, level),
        *_places(values, variances, place, end, level),
    ]
