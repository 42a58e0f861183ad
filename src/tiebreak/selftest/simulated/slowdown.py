"""Check `slowdown`: one of two cells does more work, and the tool must detect it.

First on simulated machines, thousands of times; then with real visits (real_slowdown.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tiebreak.selftest.base import Context, Outcome
from tiebreak.selftest.real import real_slowdown
from tiebreak.selftest.simulated import simulator
from tiebreak.selftest.simulated.simulator import Judged, Machine, share
from tiebreak.stats import intervals

EFFECTS = (0.02, 0.05, 0.10, 0.20)
COVERED = 0.93
"""Least share of intervals that contain the truth."""
SEEN = 0.80
"""Least share of verdicts SLOWER at the effect printed as detectable."""
LEAST_EFFECT = 0.05
"""From this effect on, verdicts with the wrong sign are counted."""
WRONG = 0.001
"""Share of wrong signs that fails the check: one in 1000 suites."""
DESIGNS: dict[str, Callable[[np.ndarray], Judged]] = {
    "4 blocks": lambda d: simulator.fixed(d, 4),
    "10 blocks": lambda d: simulator.fixed(d, 10),
    "staged": simulator.staged,
}
SCHEDULES = 500


def slowdown(ctx: Context) -> Outcome:
    """Run the simulated part, then the real one; both must pass."""
    suites = ctx.count(4000, 4000, 10_000)
    rng = np.random.default_rng(ctx.seed)
    order = simulator.orders(ctx.seed, min(suites, SCHEDULES))
    simulated: dict[str, Any] = {"suites": suites}
    for name, machine in simulator.LEVELS.items():
        ctx.say(f"simulated, {suites} suites for each effect, {name} machine")
        simulated[name] = planted(rng, machine, order, suites)
    levels = [simulated[name] for name in simulator.LEVELS]
    passed, detail = judge(levels, suites)
    real = real_slowdown.real_slowdown(ctx)
    return Outcome(
        passed and real.passed is not False,
        {"simulated": simulated, "real": real.measured},
        f"simulated: {detail}; real: {real.detail}",
        real.raw,
    )


def planted(
    rng: np.random.Generator, machine: Machine, order: np.ndarray, suites: int
) -> dict[str, Any]:
    """Return what the tool says of B, which does more work than A, on one machine."""
    results: dict[str, Any] = {}
    for effect in EFFECTS:
        d = _raced(rng, machine, order, suites) - math.log1p(effect)
        results[f"{effect:.0%}"] = answers(d, effect)
    # The printed effect is a promise about the next run: one suite prints it, the next one has it.
    printing, next_d = (_raced(rng, machine, order, suites) for _ in range(2))
    for name, design in DESIGNS.items():
        effects = np.log1p(printed(design(printing)))
        t = design(next_d - effects[:, None]).t
        results[f"at the printed effect, {name}"] = share(simulator.verdicts(t) == -1)
    return results


def answers(d: np.ndarray, effect: float) -> dict[str, Any]:
    """Judge suites in which B does `effect` more work, as at the scale `full`.

    d: [suites, blocks].
    """
    result = simulator.staged(d)
    verdicts = simulator.verdicts(result.t)
    truth = -math.log1p(effect)
    visible = printed(result) <= effect
    return {
        "covered": share((result.t.low <= truth) & (truth <= result.t.high)),
        "seen": share(verdicts == -1),
        "wrong_sign": int((verdicts == 1).sum()),
        "visible": int(visible.sum()),
        "seen_of_visible": share(verdicts[visible] == -1) if visible.any() else None,
    }


def printed(result: Judged) -> np.ndarray:
    """Return [suites] the effect that each suite prints as detectable.

    It is a smooth function of the scatter: computed at 80 points and interpolated.
    """
    effects = np.empty(len(result.blocks))
    for blocks in np.unique(result.blocks):
        chosen = result.blocks == blocks
        sd = np.log(result.t.sd[chosen])
        points = np.linspace(sd.min(), sd.max(), 80)
        log_effects = [math.log1p(intervals.detectable(math.exp(p), int(blocks))) for p in points]
        effects[chosen] = np.expm1(np.interp(sd, points, log_effects))
    return effects


def judge(levels: list[dict[str, Any]], suites: int) -> tuple[bool, str]:
    """Apply the rule to the worst level; return whether it is met, and one line of text."""
    effects = [(effect, level[f"{effect:.0%}"]) for level in levels for effect in EFFECTS]
    covered = min(answer["covered"] for _, answer in effects)
    wrong = max(answer["wrong_sign"] for effect, answer in effects if effect >= LEAST_EFFECT)
    at_printed = {n: min(v[f"at the printed effect, {n}"] for v in levels) for n in DESIGNS}
    enough = [
        *(a["seen_of_visible"] >= least_share(a["visible"]) for _, a in effects if a["visible"]),
        *(value >= least_share(suites) for value in at_printed.values()),
    ]
    passed = covered >= COVERED and wrong < max(1, WRONG * suites) and all(enough)
    seen = ", ".join(f"{value:.1%} with {name}" for name, value in at_printed.items())
    return passed, (
        f"truth in {covered:.1%} of intervals or more, seen at the printed effect {seen}, "
        f"at most {wrong} wrong signs at an effect"
    )


def least_share(suites: int) -> float:
    """Return the share that must detect it: 80 %, less two standard errors for these suites."""
    return SEEN - 2 * math.sqrt(SEEN * (1 - SEEN) / suites)


def _raced(
    rng: np.random.Generator, machine: Machine, order: np.ndarray, suites: int
) -> np.ndarray:
    """Return d [suites, blocks] of equal programs; additional work of B is a shift of it."""
    parts = (simulator.race(rng, machine, orders) for _, orders in simulator.chunks(order, suites))
    return np.concatenate([simulator.differences(a, b, machine.turns) for a, b in parts])
