"""Simulated checks: how often identical programs are called different, and intervals are right.

Both use the paired, mirrored design of the tool, interleaved and not, with a fixed number of blocks
and with the rule that adds blocks until the interval is narrow. Each has controls that must fail,
so that passing means something.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tiebreak.bench.manager import pending
from tiebreak.selftest.base import Context, Outcome
from tiebreak.selftest.simulated import simulator
from tiebreak.selftest.simulated.simulator import STAGES, Machine, share
from tiebreak.stats import intervals
from tiebreak.stats.ratios import summarize

FALSE_ALARMS = (0.036, 0.065)
"""Accepted share of suites of identical programs that are called different."""
POOLED = 0.30
"""Least share with pooled samples, the control."""
COVERED = (0.93, 0.97)
"""Accepted share of intervals that contain the truth."""
SCHEDULES = 500
"""Schedules drawn by the manager's own Plan, and reused in turn."""
WHOLE = 10
"""Suites of each level that are also summarized from records."""

NOISES = {
    "normal": Machine(drift=0.03, luck=0.03, jitter=0.025),
    "skewed": Machine(drift=0.03, luck=0.03, jitter=0.025, skewed=True),
    "autocorrelated": Machine(drift=0.04, luck=0.03, jitter=0.025, memory=0.8),
    "in turns": simulator.LEVELS["turns"],
}
TRUTH = math.log(1.1)
"""ln(work of B / work of A) in the check of coverage."""


def simulated_aa(ctx: Context) -> Outcome:
    """Race a program against itself at several noise levels; count verdicts of a difference."""
    suites = ctx.count(4000, 4000, 20_000)
    rng, order = _prepared(ctx, suites)
    measured: dict[str, Any] = {"suites": suites}
    broken = 0
    for name, machine in simulator.LEVELS.items():
        ctx.say(f"{suites} suites, {name} machine")
        d, kept = _raced(rng, machine, order, suites, 0.0)
        measured[name] = false_alarms(d) | {"pooled": pooled(rng, machine, suites // 4)}
        turns = machine.turns
        broken += sum(not _same_as_summary(d[i], *kept[i], turns) for i in range(WHOLE))
    measured["summaries_that_differ"] = broken
    low, high = FALSE_ALARMS
    levels = [measured[name] for name in simulator.LEVELS]
    rates = [level[design] for level in levels for design in ("fixed", "staged")]
    control = min(level["pooled"] for level in levels)
    passed = all(low <= rate <= high for rate in rates) and control > POOLED and not broken
    detail = (
        f"{_range(rates)} of {suites} suites at each of {len(levels)} levels called different; "
        f"pooled {control:.0%} or more"
        + (f"; {broken} summaries differ from the arithmetic" if broken else "")
    )
    return Outcome(passed, measured, detail)


def false_alarms(d: np.ndarray) -> dict[str, float]:
    """Return the shares of suites of identical programs that are called different.

    d: [suites, blocks] differences of logarithms.
    """
    ten, staged = simulator.fixed(d, STAGES[0]), simulator.staged(d)
    return {
        "fixed": share(simulator.different(ten.t)),
        "staged": share(simulator.different(staged.t)),
        "verdicts": share(simulator.verdicts(staged.t) != 0),
        "blocks": round(float(staged.blocks.mean()), 1),
    }


def pooled(rng: np.random.Generator, machine: Machine, suites: int) -> float:
    """Return the share of false alarms without blocks: AAAA BBBB, Student's test on all samples."""
    visits = STAGES[0]
    times = simulator.log_times(rng, machine, suites, 2 * visits).reshape(suites, 2, -1)
    n = times.shape[-1]
    error = np.sqrt(times.var(axis=-1, ddof=1).sum(axis=-1) / n)
    gap = np.abs(times[:, 0].mean(axis=-1) - times[:, 1].mean(axis=-1))
    return share(gap > 1.96 * error)


def coverage(ctx: Context) -> Outcome:
    """Count intervals that contain the true ratio, by kind of noise and number of blocks."""
    suites = ctx.count(4000, 4000, 20_000)
    rng, order = _prepared(ctx, suites)
    measured: dict[str, Any] = {"suites": suites}
    for name, machine in NOISES.items():
        ctx.say(f"{suites} suites, {name} noise")
        d, _ = _raced(rng, machine, order, suites, TRUTH)
        measured[name] = covered(d, -TRUTH)
    measured["limits"] = _limits(rng, suites)
    low, high = COVERED
    judged = {n: [v for k, v in measured[n].items() if int(k) >= STAGES[0]] for n in NOISES}
    passed = all(low <= value <= high for values in judged.values() for value in values)
    shown = "; ".join(f"{name} {_range(values)}" for name, values in judged.items())
    worst = {name: min(values.values()) for name, values in measured["limits"].items()}
    limits = ", ".join(f"{name} {value:.0%}" for name, value in worst.items())
    return Outcome(passed, measured, f"{shown}; known limits: {limits}")


def covered(d: np.ndarray, truth: float) -> dict[str, float]:
    """Return the share of intervals that contain `truth`, by number of blocks."""
    shares = {}
    for blocks in (3, 5, *STAGES):
        t = simulator.fixed(d, blocks).t
        shares[str(blocks)] = share((t.low <= truth) & (truth <= t.high))
    return shares


def _limits(rng: np.random.Generator, suites: int) -> dict[str, dict[str, float]]:
    """Measure noise that pairing cannot remove; it is reported, but not part of the rule."""
    shape = (suites, STAGES[-1])
    skewed = np.log1p(0.03 * np.exp(rng.standard_normal(shape)))
    mean = float(np.log1p(0.03 * np.exp(rng.standard_normal(4_000_000))).mean())
    state = simulator.autoregression(rng, 0.3, shape)
    return {
        "noise that skews one cell only": covered(skewed, mean),
        "a state of one cell only": covered(state, 0.0),
    }


def _prepared(ctx: Context, suites: int) -> tuple[np.random.Generator, np.ndarray]:
    rng = np.random.default_rng(ctx.seed)
    return rng, simulator.orders(ctx.seed, min(suites, SCHEDULES))


def _raced(
    rng: np.random.Generator, machine: Machine, order: np.ndarray, suites: int, effect: float
) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Return d [suites, blocks], and the log times of A and B of the first few suites."""
    d = np.empty((suites, order.shape[1]))
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for part, orders in simulator.chunks(order, suites):
        a, b = simulator.race(rng, machine, orders, effect)
        d[part] = simulator.differences(a, b, machine.turns)
        kept += list(zip(a[:WHOLE], b[:WHOLE], strict=True)) if not kept else []
    return d, kept


def _same_as_summary(d: np.ndarray, a: np.ndarray, b: np.ndarray, turns: bool) -> bool:
    """Compare a suite's d with the tool on the suite's records.

    Returns True if the summary of the records has the same interval, and the manager would have
    stopped at the same number of blocks as `staged`.
    """
    records = simulator.records(a, b, turns)
    plan = simulator.plan(0)
    (group,) = summarize(records, reference="A")
    summary = next(c.comparison for c in group.cells if c.comparison)
    t = intervals.t_interval(d)
    expected = (math.exp(t.mean), math.exp(t.low), math.exp(t.high), float(t.p))
    actual = (summary.ratio, summary.low or 0.0, summary.high or 0.0, summary.p or 0.0)
    ends = (n for n in STAGES if n == STAGES[-1] or pending.narrow_groups(plan, records, n))
    same_end = next(ends) == simulator.staged(d[None]).blocks[0]
    same_interval = bool(np.allclose(expected, actual, rtol=1e-9))
    return same_end and summary.blocks == len(d) and same_interval


def _range(rates: list[float]) -> str:
    low, high = f"{100 * min(rates):.1f}", f"{100 * max(rates):.1f}"
    return f"{low} %" if low == high else f"{low} to {high} %"
