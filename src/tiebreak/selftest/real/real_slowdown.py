"""The real half of the check `slowdown`: 5, 20, 50 and 100 % more of the same work in real visits.

The additional work is hidden from the harness (planted_work.py): a call that claims 100 base calls
does 100, 105, 120, 150 or 200. The summary must detect it. The detectable effect depends on the
machine and is printed; the large slowdowns are there so that something is detectable on a noisy
one. At `full` the smallest slowdown has a run of its own, with more samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tiebreak.bench.record import Record
from tiebreak.selftest.base import Context, Outcome
from tiebreak.selftest.real import races
from tiebreak.stats.ratios import summarize
from tiebreak.stats.summaries import Comparison, GroupSummary

FACTORS = ("x1.00", "x1.05", "x1.20", "x1.50", "x2.00")
"""Labels, read by planted_work.py; the first is the reference."""
PROBES = ("forward x500", "interact x60", "update x20", "train x20")
EFFORT = replace(races.EFFORT, sample_s=0.1, samples=20, steady_s=2.0)
SMALL, SMALL_BLOCKS = FACTORS[:2], 8
SMALL_EFFORT = replace(EFFORT, samples=50, longest_s=20.0)
"""If neighbouring samples differ by 15 %, eight blocks of this size detect 3 to 4 %."""
COVERED = 0.93
"""Least share of intervals that contain the truth."""
SEEN = 0.80
"""Least share of verdicts SLOWER at or above the effect printed as detectable."""
LEAST_FACTOR = 1.05
"""From this factor on, no verdict may have the wrong sign."""


def real_slowdown(ctx: Context) -> Outcome:
    """Run a group for each probe, with five cells in a group; at `full`, another with 5 % only."""
    installed = races.frameworks()
    if not installed:
        return Outcome(None, {}, "skipped, no framework installed")
    probes, effort, blocks = PROBES, EFFORT, ctx.count(2, 4, 6)
    if ctx.scale != "full":
        probes, effort = PROBES[1:2], races.EFFORT
    ctx.say(f"real: {installed[0]}, {blocks} blocks of {len(FACTORS)}")
    cells = races.cells(installed[0], probes, FACTORS)
    records = races.race(ctx, "run-01", cells, blocks, effort)
    if ctx.scale == "full":
        ctx.say(f"real: {installed[0]}, {SMALL_BLOCKS} blocks of {len(SMALL)}")
        cells = races.cells(installed[0], probes, SMALL)
        records += races.race(ctx, "small-01", cells, SMALL_BLOCKS, SMALL_EFFORT)
    comparisons = planted(records)
    passed, counts = judge(comparisons)
    counts |= races.disturbance(records)
    if ctx.scale == "full" and not counts["visible_5"]:
        passed = False  # the effect to be shown was not detectable
    smallest = min((c["detectable"] for c in comparisons), default=math.inf)
    detail = (
        f"truth in {counts['covered']} of {len(comparisons)} intervals, seen {counts['seen']} of "
        f"{counts['visible']} at or above the printed effect ({smallest:.1%} or more), of 5 % "
        f"{counts['seen_5']} of {counts['visible_5']}, "
        f"{counts['wrong_sign']} wrong signs; "
        f"{races.describe_disturbance(counts)}"
    )
    return Outcome(passed and not races.failures(records), counts, detail, {"real": comparisons})


def planted(records: list[Record]) -> list[dict[str, Any]]:
    """Return what the summary says of each planted slowdown, for each run and group."""
    return [
        {
            "run": run_id, "group": group.group, "factor": factor, "blocks": c.blocks,
            "ratio": c.ratio, "low": c.low, "high": c.high, "p": c.p,
            "verdict": c.verdict, "detectable": c.detectable,
        }
        for run_id in dict.fromkeys(r["run_id"] for r in records)
        for group in summarize([r for r in records if r["run_id"] == run_id], FACTORS[0])
        for factor, c in _comparisons(group)
    ]  # fmt: skip


def _comparisons(group: GroupSummary) -> Iterator[tuple[float, Comparison]]:
    """Yield planted factors with the comparison with the reference, if it has an interval."""
    for summary in group.cells:
        if summary.comparison and summary.comparison.low is not None:
            yield float(summary.label.removeprefix("x")), summary.comparison


def judge(comparisons: list[dict[str, Any]]) -> tuple[bool, dict[str, Any]]:
    """Apply the rule; return whether it is met, and the counts.

    A ratio is of speeds: a slowdown of 5 % is a ratio of 1 / 1.05. There are too few intervals to
    show a coverage of 93 %: the check fails if more are wrong than chance explains.
    """
    covered = sum(f["low"] <= 1 / f["factor"] <= f["high"] for f in comparisons)
    visible = [f for f in comparisons if f["factor"] >= 1 + f["detectable"]]
    seen = sum(f["verdict"] == "SLOWER" for f in visible)
    wrong = sum(f["verdict"] == "FASTER" for f in comparisons if f["factor"] >= LEAST_FACTOR)
    enough = len(comparisons) - races.most_by_chance(len(comparisons), 1 - COVERED)
    passed = bool(comparisons) and covered >= enough and seen >= SEEN * len(visible) and not wrong
    least = [f for f in visible if f["factor"] == LEAST_FACTOR]
    return passed, {
        "intervals": len(comparisons),
        "covered": covered,
        "visible": len(visible),
        "seen": seen,
        "visible_5": len(least),
        "seen_5": sum(f["verdict"] == "SLOWER" for f in least),
        "wrong_sign": wrong,
    }
