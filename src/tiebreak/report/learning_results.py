"""What training runs came to: a number for each seed, estimates over seeds, and profiles.

As rliable has them (Agarwal et al. 2021): interquartile means, the probability of improvement and
performance profiles, each with a bootstrap interval over seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tiebreak.core.seeding import derive
from tiebreak.report.learning import Line
from tiebreak.stats.curves import (
    Estimate,
    estimate,
    iqm,
    performance_profile,
    probability_of_improvement,
)
from tiebreak.stats.equivalence import compare_means, decide

THRESHOLDS = 100
"""Points of a performance profile."""
MARGIN_SD = 1.0
"""Lines whose mean returns over the training differ by less, in standard deviations between seeds,
count as the same."""


def ranked(lines: Sequence[Line]) -> list[Line]:
    """Return lines by the interquartile mean of their final returns, best first."""
    return sorted(lines, key=lambda line: -float(iqm(np.array(line.finals))))


def summary_rows(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Return a row for each line, best first.

    `final` is the interquartile mean of the final returns, `mean` that of the mean return over the
    whole training; `below_first` is the probability that a training of the first line ends above
    one of this line. `as_first` says whether its mean return over the training is shown to be the
    same as the first line's. Intervals are null for one seed.
    """
    order = ranked(lines)
    return [
        {
            "line": line.label,
            "seeds": len(line.seeds),
            **_with_ends("final", line.finals, line.label),
            **_with_ends("mean", line.heights, line.label),
            **_below_first(line, order[0]),
            "as_first": _as_first(line, order[0]),
        }
        for line in order
    ]


def seed_rows(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Return a row for each seed of each line: its final return, and its mean over the training."""
    return [
        {"line": line.label, "seed": seed, "final": final, "mean": height}
        for line in lines
        for seed, final, height in zip(line.seeds, line.finals, line.heights, strict=True)
    ]


def profile_rows(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Return points of each line's performance profile: the share of seeds above a return."""
    finals = np.concatenate([line.finals for line in lines])
    margin = 0.02 * float(np.ptp(finals)) or 1.0
    thresholds = np.linspace(finals.min() - margin, finals.max() + margin, THRESHOLDS)
    rows = []
    for line in lines:
        ends = performance_profile(line.finals, thresholds, derive(0, "profile", line.label))
        several = len(line.seeds) > 1
        for threshold, share, low, high in zip(thresholds, *ends, strict=True):
            rows.append(
                {
                    "line": line.label,
                    "return": float(threshold),
                    "share": float(share),
                    "low": float(low) if several else None,
                    "high": float(high) if several else None,
                }
            )
    return rows


def _with_ends(name: str, values: Sequence[float], label: str) -> dict[str, Any]:
    found = None
    if len(values) > 1:
        found = estimate(values, derive(0, name, label))
    value = found.value if found else float(values[0])
    return {name: value, **_ends(name, found)}


def _below_first(line: Line, first: Line) -> dict[str, Any]:
    name = "below_first"
    if line is first or min(len(line.seeds), len(first.seeds)) < 2:
        return {name: None, **_ends(name, None)}
    seed = derive(0, name, line.label)
    found = probability_of_improvement(first.finals, line.finals, seed)
    return {name: found.value, **_ends(name, found)}


def _as_first(line: Line, first: Line) -> str | None:
    """Return `same`, `different` or `not shown`; None for the first line."""
    if line is first:
        return None
    if min(len(line.seeds), len(first.seeds)) < 2:
        return "not shown"
    return decide(compare_means(first.heights, line.heights, MARGIN_SD))


def _ends(name: str, found: Estimate | None) -> dict[str, float | None]:
    low, high = (found.low, found.high) if found else (None, None)
    return {f"{name}_low": low, f"{name}_high": high}
