"""The real half of the row `slowdown`: 5, 20, 50 and 100 % more of the same work, in real visits.

The work is planted behind the stopwatch's back (subjects.py): a call that says 100 base calls does
100, 105, 120, 150 or 200 of them. The tool's own summary has to find out. How much it can see
depends on the machine, and is what it prints: the large ones are there so that something is
visible on a bad one. At `full` the smallest has a run of its own, with more samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tiebreak.bench.record import Record
from tiebreak.selftest.checks import Context, Outcome
from tiebreak.selftest.real import real
from tiebreak.stats.ratios import summarize
from tiebreak.stats.summaries import Comparison, GroupSummary

FACTORS = ("x1.00", "x1.05", "x1.20", "x1.50", "x2.00")
"""Labels; the first is the reference. subjects.py reads them."""
PROBES = ("forward x500", "interact x60", "update x20", "train x20")
EFFORT = replace(real.EFFORT, sample_s=0.1, samples=20, steady_s=2.0)
SMALL, SMALL_BLOCKS = FACTORS[:2], 8
SMALL_EFFORT = replace(EFFORT, samples=50, longest_s=20.0)
"""Where neighbouring samples differ by 15 %, eight blocks of so many print some 3 to 4 %."""
COVERED, SEEN, PLAIN = 0.93, 0.80, 1.05


def measured(ctx: Context) -> Outcome:
    """One run, with a group for each probe and five cells in a group; at `full`, more of 5 %."""
    installed = real.frameworks()
    if not installed:
        return Outcome(None, {}, "skipped, no framework installed")
    probes, effort, blocks = PROBES, EFFORT, ctx.count(2, 4, 6)
    if ctx.scale != "full":
        probes, effort = PROBES[1:2], real.EFFORT
    ctx.say(f"real: {installed[0]}, {blocks} blocks of {len(FACTORS)}")
    cells = real.cells(installed[0], probes, FACTORS)
    records = real.race(ctx, "run-01", cells, blocks, effort)
    if ctx.scale == "full":
        ctx.say(f"real: {installed[0]}, {SMALL_BLOCKS} blocks of {len(SMALL)}")
        cells = real.cells(installed[0], probes, SMALL)
        records += real.race(ctx, "small-01", cells, SMALL_BLOCKS, SMALL_EFFORT)
    found = planted(records)
    passed, counts = judged(found)
    counts |= real.disturbance(records)
    if ctx.scale == "full" and not counts["visible_5"]:
        passed = False  # what was to be shown could not be seen
    smallest = min((f["detectable"] for f in found), default=math.inf)
    detail = (
        f"truth in {counts['covered']} of {len(found)} intervals, seen {counts['seen']} of "
        f"{counts['visible']} at or above the printed effect ({smallest:.1%} or more), of 5 % "
        f"{counts['seen_5']} of {counts['visible_5']}, "
        f"{counts['wrong_sign']} wrong signs; "
        f"{real.told(counts)}"
    )
    return Outcome(passed and not real.failures(records), counts, detail, {"real": found})


def planted(records: list[Record]) -> list[dict[str, Any]]:
    """One line for each planted slowdown of each run and group: what the tool's summary says."""
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
    """Planted factor and comparison with the plain cell, where there is an interval."""
    for summary in group.cells:
        if summary.comparison and summary.comparison.low is not None:
            yield float(summary.label.removeprefix("x")), summary.comparison


def judged(found: list[dict[str, Any]]) -> tuple[bool, dict[str, Any]]:
    """The rule, and its counts. A ratio is of speeds: a slowdown of 5 % is one of 1 / 1.05.

    So few intervals cannot show 93 %: the row fails if so many missing ones would be a surprise.
    """
    covered = sum(f["low"] <= 1 / f["factor"] <= f["high"] for f in found)
    visible = [f for f in found if f["factor"] >= 1 + f["detectable"]]
    seen = sum(f["verdict"] == "SLOWER" for f in visible)
    wrong = sum(f["verdict"] == "FASTER" for f in found if f["factor"] >= PLAIN)
    enough = len(found) - real.surprising(len(found), 1 - COVERED)
    passed = bool(found) and covered >= enough and seen >= SEEN * len(visible) and not wrong
    least = [f for f in visible if f["factor"] == PLAIN]
    counts = {"intervals": len(found), "covered": covered, "visible": len(visible), "seen": seen}
    counts |= {"visible_5": len(least), "seen_5": sum(f["verdict"] == "SLOWER" for f in least)}
    return passed, {**counts, "wrong_sign": wrong}
