"""Rows of real visits: the same cell under two names, N to 8N units of work, the second clock."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tiebreak.bench.manager.store import RECORDS, read_records
from tiebreak.bench.record import Record
from tiebreak.bench.suite.plan import Effort
from tiebreak.selftest.checks import Context, Outcome
from tiebreak.selftest.real import real
from tiebreak.selftest.workloads.planted_work import amounts
from tiebreak.stats.ratios import summarize

NOTHING = Outcome(None, {}, "neither torch nor jax is installed")

AA_PROBES = {
    "torch": ("forward", "interact", "update", "train", "rebuild"),
    "linen": ("forward", "interact", "update", "train"),  # where to rebuild is to compile
}
AA_BLOCKS = 4
PAIRS = 200
NAMES = ("one name", "another name")
LEVEL = 0.05

SMALLEST = {"torch": 20, "linen": 130}
"""N, updates in the smallest sample: some 25 ms of them on two cores. What a sample costs whatever
it holds would drown in the noise of longer ones; it is judged against those that are taken."""
TIMES = (1, 2, 4, 8)
RESIDUAL, INTERCEPT = 0.02, 0.01
SHORTEST_S = Effort().sample_s
ROUNDS = 100
LINEAR = replace(real.EFFORT, samples=2 * len(TIMES) * ROUNDS, longest_s=120.0, most_calls=1)

CLOCK_PROBES = ("forward", "update")
CLOCK_SHARE, CLOCK_S = 0.005, 0.001


def real_aa(ctx: Context) -> Outcome:
    """Pairs of one cell under two names: each run, of eight processes, gives one for each probe."""
    if not (installed := real.frameworks()):
        return NOTHING
    framework = installed[0]
    probes = AA_PROBES[framework]
    runs = ctx.count(1, 3, math.ceil(PAIRS / len(probes)))
    blocks = ctx.count(2, AA_BLOCKS, AA_BLOCKS)
    records: list[Record] = []
    for i in range(runs):
        ctx.say(f"run {i + 1} of {runs}: {framework}, {len(probes)} pairs")
        records += real.race(ctx, f"run-{i + 1:02d}", real.cells(framework, probes, NAMES), blocks)
    pairs = judged_pairs(records)
    different = sum(pair["different"] for pair in pairs)
    allowed = real.surprising(len(pairs), LEVEL)
    verdicts = sum(pair["verdict"] in ("FASTER", "SLOWER") for pair in pairs)
    counts = {"pairs": len(pairs), "different": different, "allowed": allowed}
    counts |= {"verdicts": verdicts, **real.disturbance(records)}
    passed = len(pairs) == runs * len(probes) and different <= allowed
    detail = (
        f"{different} of {len(pairs)} called different (at most {allowed}), {verdicts} by verdict; "
        f"the {len(probes)} pairs of a run share its processes; {real.told(counts)}"
    )
    passed = passed and not real.failures(records)
    return Outcome(passed, counts, detail, {"pairs": pairs})


def judged_pairs(records: Iterable[Record]) -> list[dict[str, Any]]:
    """What the tool's summary says of each pair of names, run by run."""
    records, out = list(records), []
    for run_id in dict.fromkeys(r["run_id"] for r in records):
        for group in summarize([r for r in records if r["run_id"] == run_id], NAMES[0]):
            found = next((c.comparison for c in group.cells if c.comparison), None)
            if found is None or found.low is None or found.high is None:
                continue
            out.append({
                "run": run_id, "group": group.group, "blocks": found.blocks, "ratio": found.ratio,
                "low": found.low, "high": found.high, "p": found.p, "verdict": found.verdict,
                "detectable": found.detectable, "different": not found.low <= 1 <= found.high,
            })  # fmt: skip
    return out


def linearity(ctx: Context) -> Outcome:
    """Samples of N, 2N, 4N and 8N units, one after the other in every process, mirrored."""
    if not (installed := real.frameworks()):
        return NOTHING
    blocks = ctx.count(1, 1, 4)
    effort = replace(LINEAR, samples=ctx.count(16, LINEAR.samples, LINEAR.samples))
    records: list[Record] = []
    fits: dict[str, Any] = {}
    for framework in installed:
        ctx.say(f"{framework}: {blocks} visits")
        probe = "update of " + ", ".join(str(SMALLEST[framework] * times) for times in TIMES)
        found = real.race(ctx, framework, real.cells(framework, [probe], [""]), blocks, effort)
        fits[framework] = fitted(found)
        records += found
    good = [
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
    counts = real.disturbance(records)
    passed = all(good) and not real.failures(records)
    return Outcome(passed, {**fits, **counts}, f"{shown}; {real.told(counts)}")


def fitted(records: Iterable[Record]) -> dict[str, float]:
    """`line` through the median of each amount of work, over all rounds; {} without any.

    A round is the eight samples of N, 2N, 4N, 8N, 8N, 4N, 2N and N, some tenths of a second. What a
    round is slower, on the whole, is taken out before the median: a machine drifts by more than
    the bound between one second and the next.
    """
    done = [r for r in real.visits(records) if r["status"] == "ok"]
    logs = [np.log(round_) for r in done for round_ in rounds(r)]
    if not logs:
        return {}
    own = np.array(logs) - np.mean(logs, axis=1, keepdims=True)
    seconds = np.exp(np.median(own, axis=0) + np.median(np.mean(logs, axis=1)))
    turns = amounts(done[0]["cell"]["probe"])[: len(TIMES)]
    return {**line(turns, seconds), "rounds": len(logs)}


def rounds(record: Record) -> np.ndarray:
    """A visit's samples as [rounds, amounts], seconds: the mean of an amount's two samples."""
    turns, samples = len(amounts(record["cell"]["probe"])), np.array(record["samples_s"])
    skipped = -(record["work"]["calls"] - len(samples)) % turns  # the rest of warm-up's last round
    samples = samples[skipped:]
    whole = samples[: len(samples) // turns * turns].reshape(-1, turns)
    return (whole + whole[:, ::-1])[:, : turns // 2] / 2


def line(units: Sequence[float], seconds: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Least squares of seconds = a + b · units on relative residuals.

    A sample of 8N is eight times as noisy as one of N: each is weighed by what it lasts. The
    intercept a is given in seconds, and as a share of the shortest sample that is taken, without
    its sign.
    """
    x, y = np.asarray(units, np.float64), np.asarray(seconds, np.float64)
    design = np.stack([np.ones_like(x), x], axis=1)
    (a, b), *_ = np.linalg.lstsq(design / y[:, None], np.ones_like(y), rcond=None)
    residual = float(np.max(np.abs((a + b * x) / y - 1)))
    return {"residual": residual, "intercept_s": float(a), "intercept": float(abs(a) / SHORTEST_S)}


def second_clock(ctx: Context) -> Outcome:
    """The steady phase by the worker's clock and by the kernel's, in every visit of every row."""
    if not (installed := real.frameworks()):
        return NOTHING
    blocks = ctx.count(1, 2, 10)
    for framework in installed:
        ctx.say(f"{framework}: {blocks} visits")
        real.race(ctx, framework, real.cells(framework, CLOCK_PROBES, [""]), blocks)
    files = [f for f in ctx.folder.parent.glob(f"*/*/{RECORDS}") if f.parent.parent.name in ROWS]
    visits = [r for file in sorted(files) for r in real.visits(read_records(file))]
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


ROWS = ("linearity", "real-aa", "second-clock", "slowdown")
"""Whose visits are undisturbed: a hog may take the CPU between telling and timing."""


def clock_gap(record: Record) -> dict[str, Any] | None:
    """How far the two clocks are apart, and by how much that is more than allowed."""
    steady, parent = record["phases_s"].get("steady"), record.get("parent_steady_s")
    if steady is None or parent is None:
        return None
    gap = abs(parent - steady)
    excess = gap - CLOCK_SHARE * steady - CLOCK_S
    contended = "contended" in record.get("flags", {})
    return {"gap_s": gap, "steady_s": steady, "excess_s": excess, "contended": contended}
