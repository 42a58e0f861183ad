"""Average relative speeds over groups: the geometric mean of each cell's, with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from tiebreak.stats import intervals
from tiebreak.stats.summaries import CellSummary, Comparison, GroupSummary


class Mean(NamedTuple):
    """The geometric mean over groups of one cell's speed relative to their reference."""

    cell: CellSummary
    """The cell in one of the groups."""
    group: GroupSummary
    """That group."""
    groups: int
    """Number of groups."""
    comparison: Comparison
    """Without a bootstrap: blocks are those of the group with the fewest."""


def comparable(groups: Sequence[GroupSummary]) -> tuple[str, list[GroupSummary]]:
    """Return the label of the reference that most groups have, and these groups."""
    by_reference: dict[str, list[GroupSummary]] = {}
    for group in groups:
        cell = group.find(group.reference)
        if cell and not cell.barred:
            by_reference.setdefault(cell.label, []).append(group)
    return max(by_reference.items(), key=lambda item: len(item[1]), default=("", []))


def means(groups: Sequence[GroupSummary]) -> list[Mean]:
    """Return the mean of every valid cell that all groups have, fastest first.

    ln ratio = the mean over groups of ln ratio; its standard error is sqrt(sum of squared errors) /
    groups, with Welch and Satterthwaite's degrees of freedom. It is about these groups, not about
    others that might have been chosen.

    Args:
      groups: groups with one reference, see `comparable`; fewer than two have no mean.
    """
    if len(groups) < 2:
        return []
    by_label = [
        {c.label: c for c in group.cells if c.comparison and not c.barred} for group in groups
    ]
    shared = [label for label in by_label[0] if all(label in cells for cells in by_label)]
    found = [
        Mean(
            cell=by_label[0][label],
            group=groups[0],
            groups=len(groups),
            comparison=_average([cells[label].comparison for cells in by_label], len(shared)),
        )
        for label in shared
    ]
    return sorted(found, key=lambda mean: -mean.comparison.ratio)


def _average(comparisons: Sequence[Comparison | None], family: int) -> Comparison:
    """Return the geometric mean of the comparisons of one cell, one of `family`."""
    known = [c for c in comparisons if c is not None]
    mean = sum(math.log(c.ratio) for c in known) / len(known)
    estimates = [(c.error, c.freedom) for c in known if c.error is not None and c.freedom]
    blocks = min(c.blocks for c in known)
    if len(estimates) < len(known):  # a group of a single block
        return Comparison.single_block(intervals.exp(mean))

    variances = [error**2 / len(known) ** 2 for error, _ in estimates]
    error = math.sqrt(sum(variances))
    freedom = float(estimates[0][1])
    if error > 0:
        terms = zip(variances, estimates, strict=True)
        freedom = sum(variances) ** 2 / sum(v**2 / f for v, (_, f) in terms)
    low, high, p = intervals.from_error(mean, error, freedom)
    corrected = min(1.0, family * p)
    widest = intervals.from_error(mean, error, freedom, intervals.LEVEL / max(1, family))
    bound = max(-widest[0], widest[1])
    return Comparison(
        blocks=blocks,
        ratio=intervals.exp(mean),
        low=intervals.exp(low),
        high=intervals.exp(high),
        bootstrap_low=None,
        bootstrap_high=None,
        sd=None,
        p=p,
        p_holm=corrected,
        detectable=intervals.detectable_from_error(error, freedom, family),
        verdict=intervals.verdict(mean, low, high, corrected, bound=bound),
        method=known[0].method,
        bound=intervals.exp(bound) - 1,
        error=error,
        freedom=freedom,
    )
