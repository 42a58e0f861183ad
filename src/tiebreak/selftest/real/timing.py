"""Checks with real visits: `real-aa`, `linearity` and `second-clock`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tiebreak.bench.manager.store import RECORDS, read_records
from tiebreak.bench.record import Record
from tiebreak.bench.suite.plan import Effort
from tiebreak.selftest.base import Context, Outcome
from tiebreak.selftest.real import races
from tiebreak.selftest.workloads.planted_work import amounts
from tiebreak.stats.ratios import summarize

SKIPPED = Outcome(None, {}, "neither torch nor jax is installed")

AA_PROBES = {
    "torch": ("forward", "interact", "update", "train", "rebuild"),
    "linen": ("forward", "interact", "update", "train"),  # rebuilding would compile
}
AA_BLOCKS = 4
PAIRS = 200
NAMES = ("one name", "another name")
LEVEL = 0.05

SMALLEST = {"torch": 20, "linen": 130}
"""Updates in the smallest sample, about 25 ms on two cores. A constant cost per sample would drown
in the noise of longer ones; it is judged relative to the samples of ordinary visits."""
TIMES = (1, 2, 4, 8)
RESIDUAL, INTERCEPT = 0.02, 0.01
SHORTEST_S = Effort().sample_s
ROUNDS = 100
LINEAR = replace(races.EFFORT, samples=2 * len(TIMES) * ROUNDS, longest_s=120.0, most_calls=1)

CLOCK_PROBES = ("forward", "update")
CLOCK_SHARE, CLOCK_S = 0.005, 0.001


def real_aa(ctx: Context) -> Outcome:
    """Compare a cell with itself under two names; a run of 8 processes gives a pair per probe."""
    if not (installed := races.frameworks()):
        return SKIPPED
    framework = installed[0]
    probes = AA_PROBES[framework]
    runs = ctx.count(1, 3, math.ceil(PAIRS / len(probes)))
    blocks = ctx.count(2, AA_BLOCKS, AA_BLOCKS)
    records: list[Record] = []
    for i in range(runs):
        ctx.say(f"run {i + 1} of {runs}: {framework}, {len(probes)} pairs")
        records += races.race(
            ctx, f"run-{i + 1:02d}", races.cells(framework, probes, NAMES), blocks
        )
    pairs = judged_pairs(records)
    different = sum(pair["different"] for pair in pairs)
    allowed = races.most_by_chance(len(pairs), LEVEL)
    verdicts = sum(pair["verdict"] in ("FASTER", "SLOWER") for pair in pairs)
    counts = {"pairs": len(pairs), "different": different, "allowed": allowed}
    counts |= {"verdicts": verdicts, **races.disturbance(records)}
    passed = len(pairs) == runs * len(probes) and different <= allowed
    detail = (
        f"{different} of {len(pairs)} called different (at most {allowed}), {verdicts} by verdict; "
        f"the {len(probes)} pairs of a run share its processes; "
        f"{races.describe_disturbance(counts)}"
    )
    passed = passed and not races.failures(records)
    return Outcome(passed, counts, detail, {"pairs": pairs})


def judged_pairs(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Return what the summary says of each pair of names, for each run."""
    records = list(records)
    pairs = []
    for run_id in dict.fromkeys(r["run_id"] for r in records):
        for group in summarize([r for r in records if r["run_id"] == run_id], NAMES[0]):
            comparison = next((c.comparison for c in group.cells if c.comparison), None)
            if comparison is None or comparison.low is None or comparison.high is None:
                continue
            pairs.append({
                "run": run_id, "group": group.group, "blocks": comparison.blocks,
                "ratio": comparison.ratio, "low": comparison.low, "high": comparison.high,
                "p": comparison.p, "verdict": comparison.verdict,
                "detectable": comparison.detectable,
                "different": not comparison.low <= 1 <= comparison.high,
            })  # fmt: skip
    return pairs


def linearity(ctx: Context) -> Outcome:
    """Measure N, 2N, 4N and 8N units of work in turn in every process; fit a line."""
    if not (installed := races.frameworks()):
        return SKIPPED
    blocks = ctx.count(1, 1, 4)
    effort = replace(LINEAR, samples=ctx.count(16, LINEAR.samples, LINEAR.samples))
    records: list[Record] = []
    fits: dict[str, Any] = {}
    for framework in installed:
        ctx.say(f"{framework}: {blocks} visits")
        probe = "update of " + ", ".join(str(SMALLEST[framework] * times) for times in TIMES)
        visits = races.race(ctx, framework, races.cells(framework, [probe], [""]), blocks, effort)
        fits[framework] = fit_visits(visits)
        records += visits
    fits_are_good = [
        bool(fit) and fit["residual"] <= RESIDUAL and fit["intercept"] <= INTERCEPT
        for fit in fits.values()
    ]
    shown = "; ".join(
        f"{name}: residual {fit['residual']:.2%}, intercept {1000 * fit['intercept_s']:.2f} ms, "
        f"{fit['intercept']:.2%} of {1000 * SHORTEST_S:.0f} ms"
        if fit
        else f"{name}: no visit finished"
        for name, fit in fits.items()
    )
    counts = races.disturbance(records)
    passed = all(fits_are_good) and not races.failures(records)
    return Outcome(passed, {**fits, **counts}, f"{shown}; {races.describe_disturbance(counts)}")


def fit_visits(records: Iterable[Record]) -> dict[str, float]:
    """Fit a line through the median time of each amount of work, over all rounds.

    A round is the eight samples of N, 2N, 4N, 8N, 8N, 4N, 2N and N units, some tenths of a second.
    The mean of each round is removed before the median, because a machine drifts by more than the
    bound from one second to the next. Returns {} without any round.
    """
    done = [r for r in races.visits(records) if r["status"] == "ok"]
    logs = [np.log(round_) for r in done for round_ in rounds(r)]
    if not logs:
        return {}
    relative = np.array(logs) - np.mean(logs, axis=1, keepdims=True)
    seconds = np.exp(np.median(relative, axis=0) + np.median(np.mean(logs, axis=1)))
    turns = amounts(done[0]["cell"]["probe"])[: len(TIMES)]
    return {**fit_line(turns, seconds), "rounds": len(logs)}


def rounds(record: Record) -> np.ndarray:
    """Return [rounds, amounts] seconds: the mean of the two samples of each amount."""
    turns = len(amounts(record["cell"]["probe"]))
    samples = np.array(record["samples_s"])
    skipped = (
        -(record["work"]["calls"] - len(samples)) % turns
    )  # completes the last round of the warm-up
    samples = samples[skipped:]
    whole = samples[: len(samples) // turns * turns].reshape(-1, turns)
    return (whole + whole[:, ::-1])[:, : turns // 2] / 2


def fit_line(units: Sequence[float], seconds: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Fit seconds = a + b · units by least squares on relative residuals.

    A sample of 8N units is eight times as noisy as one of N, hence relative residuals.

    Args:
      units: amounts of work.
      seconds: time of each amount.

    Returns:
      `residual`, the largest relative residual; `intercept_s`, a; and `intercept`, |a| as a share
      of the shortest sample of ordinary visits.
    """
    x, y = np.asarray(units, np.float64), np.asarray(seconds, np.float64)
    design = np.stack([np.ones_like(x), x], axis=1)
    (a, b), *_ = np.linalg.lstsq(design / y[:, None], np.ones_like(y), rcond=None)
    residual = float(np.max(np.abs((a + b * x) / y - 1)))
    return {"residual": residual, "intercept_s": float(a), "intercept": float(abs(a) / SHORTEST_S)}


def second_clock(ctx: Context) -> Outcome:
    """Compare the steady phase by the worker's and by the kernel's clock, in all quiet checks."""
    if not (installed := races.frameworks()):
        return SKIPPED
    blocks = ctx.count(1, 2, 10)
    for framework in installed:
        ctx.say(f"{framework}: {blocks} visits")
        races.race(ctx, framework, races.cells(framework, CLOCK_PROBES, [""]), blocks)
    files = [
        f for f in ctx.folder.parent.glob(f"*/*/{RECORDS}") if f.parent.parent.name in QUIET_CHECKS
    ]
    visits = [r for file in sorted(files) for r in races.visits(read_records(file))]
    gaps = [gap for r in visits if r["status"] == "ok" and (gap := clock_gap(r)) is not None]
    timed = sum(r["status"] == "ok" for r in visits)
    over = sum(gap["excess_s"] > 0 for gap in gaps)
    crowded = sum(gap["excess_s"] > 0 and gap["contended"] for gap in gaps)
    counts: dict[str, Any] = {"measurements": timed, "with_both_clocks": len(gaps), "over": over}
    counts["over_while_contended"] = crowded
    worst = max(gaps, key=lambda gap: gap["excess_s"], default=None)
    counts["worst"] = worst
    detail = f"{over} of {len(gaps)} measurements apart by more than 0.5 % + 1 ms"
    detail += f", {crowded} of them on a contended machine" if crowded else ""
    if worst:
        detail += f"; the worst by {1000 * worst['gap_s']:.2f} ms of {worst['steady_s']:.2f} s"
    if len(gaps) < timed:
        detail += f"; {timed - len(gaps)} have no second clock"
    return Outcome(bool(gaps) and not over and len(gaps) == timed, counts, detail)


QUIET_CHECKS = ("linearity", "real-aa", "second-clock", "slowdown")
"""Checks whose visits are undisturbed: a hog may take the CPU between the two clocks' readings."""


def clock_gap(record: Record) -> dict[str, Any] | None:
    """Return the gap between the clocks, and its excess over the allowance; None if unknown."""
    steady, parent = record["phases_s"].get("steady"), record.get("parent_steady_s")
    if steady is None or parent is None:
        return None
    gap = abs(parent - steady)
    excess = gap - CLOCK_SHARE * steady - CLOCK_S
    contended = "contended" in record.get("flags", {})
    return {"gap_s": gap, "steady_s": steady, "excess_s": excess, "contended": contended}
