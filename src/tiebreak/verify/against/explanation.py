"""Find the known deviations by which a trace differs from the oracle's, by computing them.

A deviation explains a difference if the oracle that has it agrees with the trace for longer. The
search adds the one that leads furthest until nothing differs or nothing helps. Where no single one
helps, it tries pairs of those that change the term that differs.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tiebreak.verify.against.comparison import Bounds, Comparison, compare_traces
from tiebreak.verify.against.deviations import common_deviations
from tiebreak.verify.against.problem import Problem
from tiebreak.verify.against.rules import Deviation, rules_of
from tiebreak.verify.against.trace import Trace, growing_trace


class Explanation(NamedTuple):
    """What is known about the differences between a trace and the oracle's."""

    deviations: list[Deviation]
    remaining: Comparison
    """Comparison with the oracle that has these deviations."""
    want: Trace
    """What that oracle computes."""


def explain(problem: Problem, got: Trace, bounds: Bounds) -> Explanation:
    """Search for deviations that explain the differences between `got` and the oracle."""
    candidates = candidates_for(problem)
    best = _try(problem, got, bounds, [])
    while best.remaining.first is not None:
        left = [d for d in candidates if d not in best.deviations]
        singles = _extended(problem, got, bounds, best, [(d,) for d in left])
        found = _furthest(best, singles)
        if found is None:
            involved = [tried.deviations[-1] for tried in singles if _moves(best, tried)]
            pairs = list(itertools.combinations(involved, 2))
            found = _furthest(best, _extended(problem, got, bounds, best, pairs))
        if found is None:
            break
        best = found
    return _without_idle(problem, got, bounds, best)


def candidates_for(problem: Problem) -> list[Deviation]:
    """Return an algorithm's deviations that change something in this configuration."""
    config, rules = problem.case.config, rules_of(problem.algorithm)
    listed = [*rules.deviations, *common_deviations(config, rules)]
    return [
        d
        for d in listed
        if d.change or any(getattr(config, name) != value for name, value in d.settings.items())
    ]


def _try(
    problem: Problem, got: Trace, bounds: Bounds, deviations: Sequence[Deviation]
) -> Explanation:
    """Compare with the oracle that has these deviations, up to the first difference."""
    want: Trace = []
    comparison = compare_traces(problem.algorithm, [], [], bounds)
    with np.errstate(all="ignore"):  # a combination may overflow: then it explains nothing
        for want in growing_trace(problem, deviations):
            comparison = compare_traces(problem.algorithm, got[: len(want)], want, bounds)
            if comparison.first is not None:
                break
    return Explanation(list(deviations), comparison, want)


def _extended(
    problem: Problem,
    got: Trace,
    bounds: Bounds,
    best: Explanation,
    additions: Sequence[tuple[Deviation, ...]],
) -> list[Explanation]:
    """Return the explanations with more deviations, for each of `additions` that can be run."""
    out = []
    for more in additions:
        # A setting may ask for other weights than there are.
        with contextlib.suppress(KeyError, ValueError):
            out.append(_try(problem, got, bounds, [*best.deviations, *more]))
    return out


def _furthest(best: Explanation, extended: Sequence[Explanation]) -> Explanation | None:
    """Return the explanation that agrees for longest; None if none agrees for longer."""
    found = max(extended, key=lambda tried: tried.remaining.place, default=best)
    return found if found.remaining.place > best.remaining.place else None


def _moves(best: Explanation, tried: Explanation) -> bool:
    """Return True if the last deviation changes the term that differs, and nothing before it."""
    if best.remaining.first is None or tried.remaining.place != best.remaining.place:
        return False
    index, label = best.remaining.first
    name = best.remaining.updates[index][label].name
    return not np.array_equal(best.want[index][name], tried.want[index][name])


def _without_idle(problem: Problem, got: Trace, bounds: Bounds, best: Explanation) -> Explanation:
    """Leave out deviations without which the oracle agrees for as long."""
    for deviation in list(best.deviations):
        if len(best.deviations) == 1:
            break
        fewer = [d for d in best.deviations if d is not deviation]
        tried = _try(problem, got, bounds, fewer)
        if tried.remaining.place >= best.remaining.place:
            best = tried
    return best


def describe(deviation: Deviation) -> dict[str, str]:
    """Return a deviation as plain values, for JSON."""
    fields = {"decision": deviation.decision, "text": deviation.text, "seen_in": deviation.seen_in}
    return {name: str(value) for name, value in fields.items()}
