"""The row `slowdown`: work is planted in one of two cells, and the tool has to say so.

First on simulated machines, thousands of times; then for real (real_slowdown.py), where subjects do
2, 5, 10 and 20 % more of the same work.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tiebreak.selftest.checks import Context, Outcome
from tiebreak.selftest.real import real_slowdown
from tiebreak.selftest.simulated import simulate
from tiebreak.selftest.simulated.simulate import Judged, Machine, share
from tiebreak.stats import intervals

EFFECTS = (0.02, 0.05, 0.10, 0.20)
COVERED, SEEN = 0.93, 0.80
PLAIN = 0.05
WRONG = 0.001
"""From an effect of PLAIN on, so many verdicts with the wrong sign fail the row: one in the
protocol's 1000 suites. Where 5 % cannot be seen, ten thousand suites do bring one."""
DESIGNS: dict[str, Callable[[np.ndarray], Judged]] = {
    "4 blocks": lambda d: simulate.fixed(d, 4),
    "10 blocks": lambda d: simulate.fixed(d, 10),
    "staged": simulate.staged,
}
SCHEDULES = 500


def slowdown(ctx: Context) -> Outcome:
    """The simulated part, then the real one; both have to pass."""
    suites = ctx.count(4000, 4000, 10_000)
    rng = np.random.default_rng(ctx.seed)
    order = simulate.orders(ctx.seed, min(suites, SCHEDULES))
    simulated: dict[str, Any] = {"suites": suites}
    for name, machine in simulate.LEVELS.items():
        ctx.say(f"simulated, {suites} suites for each effect, {name} machine")
        simulated[name] = planted(rng, machine, order, suites)
    levels = [simulated[name] for name in simulate.LEVELS]
    passed, detail = judged(levels, suites)
    real = real_slowdown.measured(ctx)
    return Outcome(
        passed and real.passed is not False,
        {"simulated": simulated, "real": real.measured},
        f"simulated: {detail}; real: {real.detail}",
        real.raw,
    )


def planted(
    rng: np.random.Generator, machine: Machine, order: np.ndarray, suites: int
) -> dict[str, Any]:
    """What the tool says of B, which does more work than A, on one machine."""
    out: dict[str, Any] = {}
    for effect in EFFECTS:
        d = _raced(rng, machine, order, suites) - math.log1p(effect)
        out[f"{effect:.0%}"] = answers(d, effect)
    # The printed effect is a promise about the next run: one suite prints it, another has it.
    printing, next_ = (_raced(rng, machine, order, suites) for _ in range(2))
    for name, design in DESIGNS.items():
        effects = np.log1p(printed(design(printing)))
        t = design(next_ - effects[:, None]).t
        out[f"at the printed effect, {name}"] = share(simulate.verdicts(t) == -1)
    return out


def answers(d: np.ndarray, effect: float) -> dict[str, Any]:
    """Of suites in which B does `effect` more work, judged as at the scale `full`."""
    result = simulate.staged(d)
    said, truth = simulate.verdicts(result.t), -math.log1p(effect)
    visible = printed(result) <= effect
    return {
        "covered": share((result.t.low <= truth) & (truth <= result.t.high)),
        "seen": share(said == -1),
        "wrong_sign": int((said == 1).sum()),
        "visible": int(visible.sum()),
        "seen_of_visible": share(said[visible] == -1) if visible.any() else None,
    }


def printed(result: Judged) -> np.ndarray:
    """The effect that each suite prints as detectable.

    It is smooth in the scatter: asked for at 80 points, and read off between them.
    """
    out = np.empty(len(result.blocks))
    for blocks in np.unique(result.blocks):
        chosen = result.blocks == blocks
        sd = np.log(result.t.sd[chosen])
        points = np.linspace(sd.min(), sd.max(), 80)
        asked = [math.log1p(intervals.detectable(math.exp(p), int(blocks))) for p in points]
        out[chosen] = np.expm1(np.interp(sd, points, asked))
    return out


def judged(levels: list[dict[str, Any]], suites: int) -> tuple[bool, str]:
    """The rule, and one line about it."""
    effects = [(effect, level[f"{effect:.0%}"]) for level in levels for effect in EFFECTS]
    covered = min(answer["covered"] for _, answer in effects)
    wrong = max(answer["wrong_sign"] for effect, answer in effects if effect >= PLAIN)
    at_printed = {n: min(v[f"at the printed effect, {n}"] for v in levels) for n in DESIGNS}
    enough = [
        *(a["seen_of_visible"] >= least(a["visible"]) for _, a in effects if a["visible"]),
        *(value >= least(suites) for value in at_printed.values()),
    ]
    passed = covered >= COVERED and wrong < max(1, WRONG * suites) and all(enough)
    seen = ", ".join(f"{value:.1%} with {name}" for name, value in at_printed.items())
    return passed, (
        f"truth in {covered:.1%} of intervals or more, seen at the printed effect {seen}, "
        f"at most {wrong} wrong signs at an effect"
    )


def least(suites: int) -> float:
    """The share that must have seen it: 80 %, less two standard errors of so many suites."""
    return SEEN - 2 * math.sqrt(SEEN * (1 - SEEN) / suites)


def _raced(
    rng: np.random.Generator, machine: Machine, order: np.ndarray, suites: int
) -> np.ndarray:
    """d of equal programs, [suites, blocks]; work planted in B is a shift of it."""
    parts = (simulate.race(rng, machine, orders) for _, orders in simulate.chunks(order, suites))
    return np.concatenate([simulate.differences(a, b, machine.turns) for a, b in parts])
