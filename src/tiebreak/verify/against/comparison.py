"""Compare two traces, term by term, and find the one that differs first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tiebreak.frameworks.numpy.ops import to_float64
from tiebreak.verify.against.problem import Problem
from tiebreak.verify.against.rules import label_of, labels
from tiebreak.verify.against.trace import Trace, trace_oracle
from tiebreak.verify.compare import BOUNDS, CONTROL_FACTOR, NOT_COMPARABLE, error

CONTROLS = 3
"""Starts of the oracle that are one float32 rounding away, to see what rounding may do."""


class Cell(NamedTuple):
    """One row of the table in one update."""

    name: str
    """The array that differs most."""
    worst: float
    bound: float
    reason: str = ""
    """Why it cannot be compared, such as another shape."""

    @property
    def ok(self) -> bool:
        """True if the numbers agree."""
        return self.worst <= self.bound


class Comparison(NamedTuple):
    """Two traces, compared."""

    updates: list[dict[str, Cell]]
    """For each update, the cells of the rows that both traces have."""
    order: list[str]
    """All rows, in the order in which an update computes them."""

    @property
    def first(self) -> tuple[int, str] | None:
        """Update (from 0) and row that differ first; None if nothing does."""
        for index, cells in enumerate(self.updates):
            for label in self.order:
                if label in cells and not cells[label].ok:
                    return index, label
        return None

    @property
    def place(self) -> tuple[int, int]:
        """Return how far two traces agree, to be compared with other such places."""
        if self.first is None:
            return len(self.updates), 0
        return self.first[0], self.order.index(self.first[1])

    @property
    def worst(self) -> float:
        """Largest error of all that is compared."""
        return max((c.worst for cells in self.updates for c in cells.values()), default=0.0)

    def column(self, label: str) -> tuple[int, Cell] | None:
        """Return the update and cell to show for a row: the first that differs, or the worst."""
        cells = [(i, update[label]) for i, update in enumerate(self.updates) if label in update]
        wrong = [cell for cell in cells if not cell[1].ok]
        if wrong:
            return wrong[0]
        return max(cells, key=lambda cell: cell[1].worst, default=None)


class Bounds(NamedTuple):
    """Largest allowed errors."""

    least: float
    controls: Sequence[dict[str, float]] = ()
    """For each update, what one rounding at the start does to each row."""

    def of(self, update: int, label: str) -> float:
        """Return the bound of a row in an update, counted from 0."""
        if update >= len(self.controls):
            return self.least
        return max(self.least, CONTROL_FACTOR * self.controls[update].get(label, 0.0))


def compare_traces(algorithm: str, got: Trace, want: Trace, bounds: Bounds) -> Comparison:
    """Compare what two implementations computed, where both say it."""
    updates = []
    for index, (one, two) in enumerate(zip(got, want, strict=True)):
        cells: dict[str, Cell] = {}
        for name in one.keys() & two.keys():
            label = label_of(algorithm, name)
            bound = bounds.of(index, label)
            cell = compare_arrays(name, one[name], two[name], bound)
            if label not in cells or cell.worst > cells[label].worst:
                cells[label] = cell
        updates.append(cells)
    return Comparison(updates, labels(algorithm))


def compare_arrays(name: str, got: Any, want: Any, bound: float) -> Cell:
    """Compare two arrays; a single number is compared with the mean of many."""
    got, want = np.asarray(got), np.asarray(want)
    one, other = np.squeeze(got), np.squeeze(want)
    if one.shape != other.shape and 1 in (one.size, other.size):
        one, other = one.mean(), other.mean()
    try:
        return Cell(name, error(one, other), bound)
    except ValueError as problem:
        return Cell(name, NOT_COMPARABLE, bound, str(problem))


def make_bounds(problem: Problem, want: Trace, precision: str) -> Bounds:
    """Return the bounds of a precision; in float32 a row may move as far as rounding moves it.

    Adam divides a gradient by its own size, so that where one is nearly zero its rounding decides.
    """
    bound = BOUNDS[precision]["gradient"]
    if precision == "float64":
        return Bounds(bound)
    rng = np.random.default_rng(0)
    start = to_float64(problem.weights)
    controls: list[dict[str, float]] = [{} for _ in want]
    for _ in range(CONTROLS):
        moved = {
            name: value * (1.0 + np.finfo(np.float32).eps * rng.standard_normal(value.shape))
            for name, value in start.items()
            if value.dtype.kind == "f"
        }
        other = trace_oracle(problem, weights={**start, **moved})
        comparison = compare_traces(problem.algorithm, other, want, Bounds(bound))
        for largest, cells in zip(controls, comparison.updates, strict=True):
            for label, cell in cells.items():
                largest[label] = max(largest.get(label, 0.0), cell.worst)
    return Bounds(bound, controls)


PLAIN = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Factors that are worth a word where two single numbers differ."""


def ratio(got: Any, want: Any) -> float | None:
    """Return c if `got` is c times `want` everywhere, to 1e-6; None otherwise."""
    one, other = (np.ravel(np.asarray(x, np.float64)) for x in (got, want))
    if one.shape != other.shape or not np.any(other):
        return None
    factor = float(one @ other / (other @ other))
    close = np.allclose(one, factor * other, rtol=1e-6, atol=1e-6 * np.abs(other).max())
    plain = np.isclose(np.abs(factor), PLAIN, rtol=1e-6).any()
    is_one = abs(factor - 1.0) < 1e-3  # not what tells the two apart
    return factor if close and not is_one and (plain or one.size > 2) else None
