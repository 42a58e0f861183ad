"""The real half of the row `slowdown`: 2, 5, 10 and 20 % more of the same work, in real visits.

The work is planted behind the stopwatch's back (subjects.py): a call that says 100 base calls does
100, 102, 105, 110 or 120 of them. The tool's own summary has to find out: in short runs of all of
them whether its intervals hold the truth, in long ones of 5 % alone, which go on until the tool
prints that it would see so much, whether it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tiebreak.bench.record import Record
from tiebreak.selftest import real
from tiebreak.selftest.rows import Context, Outcome
from tiebreak.stats.ratios import summarize
from tiebreak.stats.summaries import Comparison, GroupSummary

FACTORS = ("x1.00", "x1.02", "x1.05", "x1.10", "x1.20")
"""Labels; the first is the reference. subjects.py reads them."""
PROBES = ("forward x100", "update x100")

DEEP = ("x1.00", "x1.05")
DEEP_PROBES = ("forward x1000", "interact x100", "update x40", "train x20")
STAGES = (16, 24, 32, 40)
HALF_WIDTH = 0.033
"""A run of 16 blocks or more with intervals of ± 3.3 % prints some 5 % as detectable."""
EFFORT = replace(real.EFFORT, sample_s=0.1, samples=10, steady_s=1.0)
COVERED, SEEN, PLAIN = 0.93, 0.80, 1.05


def measured(ctx: Context) -> Outcome:
    """Several independent runs, each with one group for each probe and five cells in a group."""
    installed = real.frameworks()
    if not installed:
        return Outcome(None, {}, "skipped, no framework installed")
    framework = installed[-1]
    runs, blocks = ctx.count(1, 1, 3), ctx.count(2, 4, 6)
    records: list[Record] = []
    for i in range(runs):
        ctx.say(f"real run {i + 1} of {runs}: {framework}, {blocks} blocks of {len(FACTORS)}")
        cells = real.cells(framework, PROBES, FACTORS)
        records += real.race(ctx, f"run-{i + 1:02d}", cells, blocks)
    for i in range(ctx.count(0, 0, 3)):
        ctx.say(f"real run {i + 1} of 3 of 5 %: {installed[0]}, up to {STAGES[-1]} blocks")
        records += _deep(ctx, f"deep-{i + 1:02d}", installed[0])
    found = planted(records)
    passed, counts = judged(found)
    counts |= real.disturbance(records)
    if runs > 1 and not counts["visible"]:
        passed = False  # nothing that could be seen was planted, so nothing was shown
    detail = (
        f"truth in {counts['covered']} of {len(found)} intervals, seen {counts['seen']} of "
        f"{counts['visible']} at or above the printed effect, {counts['wrong_sign']} wrong signs; "
        f"{real.told(counts)}"
    )
    return Outcome(passed and not real.failures(records), counts, detail, {"real": found})


def _deep(ctx: Context, name: str, framework: str) -> list[Record]:
    """A run of 5 % alone, as long as the tool needs to print that it would see it."""
    cells = real.cells(framework, DEEP_PROBES, DEEP)
    more = {"stages": STAGES, "half_width": HALF_WIDTH}
    return real.race(ctx, name, cells, STAGES[-1], EFFORT, **more)


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
    counts = {"intervals": len(found), "covered": covered, "visible": len(visible)}
    return passed, {**counts, "seen": seen, "wrong_sign": wrong}
