"""Simulated check: runs of the scale quick, three groups of five cells in three blocks.

With few blocks, intervals use the rounds, too (stats/intervals.py:two_level_interval). Counted are
intervals that contain the truth, families of identical programs in which one is called different,
and planted differences that are seen.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from tiebreak.bench.record import empty_result
from tiebreak.bench.suite.plan import Cell
from tiebreak.core.seeding import derive
from tiebreak.selftest.base import Context, Outcome
from tiebreak.selftest.simulated import simulator
from tiebreak.selftest.simulated.false_alarms import COVERED, NOISES
from tiebreak.selftest.simulated.simulator import Machine, share
from tiebreak.stats import intervals
from tiebreak.stats.ratios import summarize

GROUPS, CELLS, BLOCKS, ROUNDS = 3, 5, 3, 30
"""A run of the scale quick."""
PLANTED = (0.05, 0.10, 0.25)
"""Additional work of the last three cells in the races with planted differences."""
FALSE_FAMILIES = 0.05
"""Largest share of groups of identical programs in which any cell gets FASTER or SLOWER."""
SEEN = 0.80
"""Least share of planted differences that are seen, of those no smaller than the printed one."""
WHOLE = 4
"""Suites of each machine that are also summarized from records."""


class Races(NamedTuple):
    """Simulated runs, reduced to what verdicts are made of."""

    d: np.ndarray
    """[suites, groups, cells - 1, blocks] differences of levels from the first cell."""
    expected: np.ndarray
    """[suites, groups, cells - 1] variance between blocks that the rounds give, scaled."""


def quick_runs(ctx: Context) -> Outcome:
    """Simulate quick runs on four kinds of machine; count what their intervals say."""
    suites = ctx.count(1000, 1000, 4000)
    rng = np.random.default_rng(ctx.seed)
    measured: dict[str, Any] = {"suites": suites}
    broken = 0
    for name, machine in NOISES.items():
        ctx.say(f"{suites} quick runs, {name} noise")
        same = raced(rng, machine, suites, np.zeros(CELLS))
        works = np.array([0.0, 0.0, *map(math.log1p, PLANTED)])
        planted = raced(rng, machine, suites, works)
        measured[name] = {
            "covered": covered(same, np.zeros(CELLS)),
            "covered_planted": covered(planted, works),
            "student": _student(same),
            "false_families": false_families(same),
            "seen": seen(planted, works),
        }
        broken += sum(not _same_as_summary(rng, machine) for _ in range(WHOLE))
    measured["summaries_that_differ"] = broken
    kinds = [measured[name] for name in NOISES]
    rates = [kind[key] for kind in kinds for key in ("covered", "covered_planted")]
    false = max(kind["false_families"] for kind in kinds)
    least_seen = min(kind["seen"] for kind in kinds)
    passed = (
        COVERED[0] <= min(rates)
        and max(rates) <= COVERED[1]
        and false <= FALSE_FAMILIES
        and least_seen >= SEEN
        and not broken
    )
    detail = (
        f"{100 * min(rates):.1f} to {100 * max(rates):.1f} % of intervals hold the truth; false "
        f"verdicts in {100 * false:.1f} % of groups or fewer; {100 * least_seen:.0f} % or more seen"
    )
    detail += f"; {broken} summaries differ from the arithmetic" if broken else ""
    return Outcome(passed, measured, detail)


def log_times(
    rng: np.random.Generator, machine: Machine, suites: int, works: np.ndarray
) -> np.ndarray:
    """Simulate one group: [suites, blocks, cells, rounds] log times, taken in turns."""
    shape = (suites, BLOCKS, CELLS, ROUNDS)
    luck = simulator.scatter(rng, machine, machine.luck, (*shape[:-1], 1))
    state = _states(rng, machine, suites)
    jitter = simulator.scatter(rng, machine, machine.jitter, shape)
    if machine.memory:
        jitter = machine.jitter * simulator.autoregression(rng, machine.memory, shape)
    return state + luck + jitter + works[:, None]


def _states(rng: np.random.Generator, machine: Machine, suites: int) -> np.ndarray:
    """Simulate the machine's state at each sample, every second round in reverse order."""
    samples = BLOCKS * ROUNDS * CELLS
    step = machine.drift / math.sqrt(simulator.SAMPLES)
    warming = machine.warming / simulator.SAMPLES
    walk = np.cumsum(rng.normal(warming, step, (suites, samples)), axis=1)
    if machine.bursts:
        visits = -(-samples // simulator.SAMPLES)
        busy = simulator.burst_times(rng, machine.bursts, suites, visits)[:, :samples]
        walk += math.log1p(machine.burst) * busy
    rounds = walk.reshape(suites, BLOCKS, ROUNDS, CELLS)
    rounds[:, :, 1::2] = rounds[:, :, 1::2, ::-1].copy()
    return np.moveaxis(rounds, -1, 2)


def raced(rng: np.random.Generator, machine: Machine, suites: int, works: np.ndarray) -> Races:
    """Simulate suites and reduce them as stats/ratios.py does.

    works: [cells] logarithms of the cells' work.
    """
    groups = [log_times(rng, machine, suites, works) for _ in range(GROUPS)]
    return reduced(np.stack(groups, axis=1))


def reduced(times: np.ndarray) -> Races:
    """Reduce [suites, groups, blocks, cells, rounds] log times."""
    levels = np.median(times - times.mean(axis=-2, keepdims=True), axis=-1)
    d = np.moveaxis(levels[..., :1] - levels[..., 1:], 2, -1)
    errors = intervals.round_error(times[..., :1, :] - times[..., 1:, :])
    expected = intervals.expected_variance(np.moveaxis(errors, 2, -1))
    excess = (d.var(axis=-1, ddof=1) / expected).reshape(len(d), -1)
    scatter = intervals.scatter(excess, BLOCKS)
    return Races(d, expected * scatter[:, None, None])


def covered(races: Races, works: np.ndarray) -> float:
    """Return the share of intervals that contain the truth."""
    t = intervals.two_level_interval(races.d, races.expected)
    truth = works[0] - works[1:]
    return share((t.low <= truth) & (truth <= t.high))


def _student(races: Races) -> float:
    t = intervals.t_interval(races.d)
    return share((t.low <= 0) & (t.high >= 0))


def false_families(races: Races) -> float:
    """Return the share of groups in which any of the identical cells gets a verdict."""
    return share((_verdicts(races) != 0).any(axis=-1))


def seen(races: Races, works: np.ndarray) -> float:
    """Return the share of planted differences, no smaller than the printed one, that are seen.

    The printed one is that of another suite: a promise is about the next run.
    """
    t = intervals.two_level_interval(races.d, races.expected)
    freedom = intervals.two_level_freedom(BLOCKS)
    errors = (t.sd / math.sqrt(BLOCKS)).reshape(-1)
    grid = np.quantile(errors, np.linspace(0, 1, 60))
    printed = [intervals.detectable_from_error(e, freedom, CELLS - 1) for e in grid]
    promised = np.interp(errors, grid, printed).reshape(t.sd.shape)
    promised = np.roll(promised, 1, axis=0)
    effects = np.expm1(works[1:] - works[0])
    due = (promised <= effects) & (effects > 0)
    return share(_verdicts(races)[due] == -1) if due.any() else 1.0


def _verdicts(races: Races) -> np.ndarray:
    """Return [suites, groups, cells - 1] verdicts: -1 SLOWER, 1 FASTER, 0 neither."""
    t = intervals.two_level_interval(races.d, races.expected)
    p = _holm(t.p)
    decided = ((t.low > 0) | (t.high < 0)) & (p < intervals.LEVEL)
    decided &= np.abs(t.mean) > intervals.MARGIN
    return np.where(decided, np.sign(t.mean), 0)


def _holm(p: np.ndarray) -> np.ndarray:
    """Return Holm's adjusted p-values along the last axis."""
    order = np.argsort(p, axis=-1)
    family = p.shape[-1]
    steps = np.take_along_axis(p, order, axis=-1) * np.arange(family, 0, -1)
    adjusted = np.minimum(1.0, np.maximum.accumulate(steps, axis=-1))
    out = np.empty_like(p)
    np.put_along_axis(out, order, adjusted, axis=-1)
    return out


def _same_as_summary(rng: np.random.Generator, machine: Machine) -> bool:
    """Return True if the summary of a run's records has these intervals and verdicts."""
    works = np.array([0.0, 0.0, *map(math.log1p, PLANTED)])
    times = np.stack([log_times(rng, machine, 1, works) for _ in range(GROUPS)], axis=1)
    races = reduced(times)
    t = intervals.two_level_interval(races.d, races.expected)
    verdicts = _verdicts(races)
    names = {-1: "SLOWER", 1: "FASTER"}
    for g, group in enumerate(summarize(_records(times[0]), reference="cell 0")):
        by_label = {cell.label: cell.comparison for cell in group.cells}
        for i in range(CELLS - 1):
            comparison = by_label[f"cell {i + 1}"]
            if comparison is None or comparison.method != "two-level":
                return False
            ends = (comparison.ratio, comparison.low or 0.0, comparison.high or 0.0)
            expected = (t.mean[0, g, i], t.low[0, g, i], t.high[0, g, i])
            if not np.allclose(np.log(ends), expected, rtol=1e-9, atol=1e-12):
                return False
            verdict = names.get(int(verdicts[0, g, i]))
            if comparison.verdict != "SAME" and (verdict or "AMBIGUOUS") != comparison.verdict:
                return False
    return True


def _records(times: np.ndarray) -> list[dict[str, Any]]:
    """Return [groups, blocks, cells, rounds] log times as the records of a run."""
    stored = []
    for g, group in enumerate(times):
        for block, cells in enumerate(group):
            for i, samples in enumerate(cells):
                cell = Cell(
                    algorithm="ppo",
                    framework="torch",
                    mode="eager",
                    task=f"gymnasium/Task{g}-v1",
                    loop="host",
                    probe="train",
                    label=f"cell {i}",
                )
                stored.append(
                    {
                        **empty_result("ok", ""),
                        "kind": "visit",
                        "run_id": "simulated",
                        "fingerprint": "",
                        "cell_id": cell.id,
                        "group": cell.group,
                        "cell": {**vars(cell)},
                        "units_per_sample": 1,
                        "unit": "units",
                        "block": block,
                        "samples_s": np.exp(samples).tolist(),
                        "turns": f"{derive(0, 'turns', g, block):x}",
                    }
                )
    return stored
