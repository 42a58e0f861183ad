"""A simulated machine on which programs race, and the statistics of thousands of runs at once.

The machine drifts, each process is faster or slower as a whole, and samples jitter. Times are
natural logarithms of seconds per unit. A *suite* is one run of two cells, A and B. Arrays are
[suites, blocks, samples], and are judged by the same functions as real runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tiebreak.bench.record import empty_result
from tiebreak.bench.suite.plan import Cell, Plan, Scale
from tiebreak.core.seeding import derive
from tiebreak.stats import intervals

SAMPLES = 20
"""Samples of one visit."""
STAGES = (10, 20, 30, 50)
"""Numbers of blocks at which the scale `full` may stop."""
HALF_WIDTH = 0.015
"""It stops when the half-width of the interval is at most this."""
CHUNK = 500
"""Suites simulated at a time; 500 suites of 50 blocks take 8 MB."""


class Machine(NamedTuple):
    """How a simulated machine disturbs what it runs; standard deviations are of logarithms."""

    drift: float
    """Standard deviation of the machine's random walk, per visit."""
    luck: float
    """Standard deviation between processes: memory layout, hash seed, placement of threads."""
    jitter: float
    """Standard deviation of a sample."""
    warming: float = 0.0
    """Slowdown of the machine per visit, always: the reason for mirrored blocks."""
    bursts: float = 0.0
    """Probability that another program starts during a visit; it runs 1.5 visits on average."""
    burst: float = 0.0
    """Slowdown while it runs."""
    memory: float = 0.0
    """If not 0, state and samples are autoregressive with this coefficient, instead of a random
    walk and independent samples."""
    skewed: bool = False
    """Luck and jitter are lognormal and only add time."""
    turns: bool = False
    """Visits of a block are interleaved, as on a CPU; otherwise they run in turn, as on a GPU."""


LEVELS = {
    "quiet": Machine(drift=0.006, luck=0.006, jitter=0.015, warming=0.002),
    "usual": Machine(drift=0.03, luck=0.03, jitter=0.025, warming=0.01, bursts=0.02, burst=0.1),
    "rough": Machine(drift=0.07, luck=0.08, jitter=0.1, warming=0.02, bursts=0.05, burst=0.3),
    "turns": Machine(
        drift=0.1, luck=0.006, jitter=0.03, warming=0.02, bursts=0.2, burst=0.9, turns=True
    ),
}
"""Visits of one cell scatter by about 1, 5 and 13 % on the first three: the least, the median and
the most of the published runs on two cores. The last one is far noisier, as shared hosts were on
some days, and its visits are interleaved."""


def orders(seed: int, suites: int, blocks: int = STAGES[-1]) -> np.ndarray:
    """Return [suites, blocks] booleans: does A run before B, by the manager's own schedule?"""
    plans = (plan(derive(seed, "plan", i)) for i in range(suites))
    a_first = [[p.block(k)[0][0].cells[0].label == "A" for k in range(blocks)] for p in plans]
    return np.array(a_first)


def plan(seed: int) -> Plan:
    """Return the plan of a simulated suite, as a real one would be planned."""
    settings = Scale(blocks=STAGES[-1], stages=STAGES, half_width=HALF_WIDTH)
    return Plan("simulated", "full", seed, settings, tuple(_cell(label) for label in "AB"))


def race(
    rng: np.random.Generator, machine: Machine, order: np.ndarray, effect: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Simulate races of A against B.

    Args:
      rng: random numbers.
      machine: how the machine disturbs them.
      order: [suites, blocks] booleans, True if A runs first.
      effect: ln(work of B / work of A), one for all suites or [suites].

    Returns:
      Log times of A and of B, [suites, blocks, samples] each.
    """
    suites, blocks = order.shape
    times = _states(rng, machine, suites, 2 * blocks).reshape(suites, blocks, 2, SAMPLES)
    if machine.turns:
        rounds = times.reshape(suites, blocks, SAMPLES, 2)
        rounds[:, :, 1::2] = rounds[:, :, 1::2, ::-1].copy()  # every second round runs in reverse
        times = np.moveaxis(rounds, -1, 2)
    times = times + scatter(rng, machine, machine.luck, (suites, blocks, 2, 1))
    first, second = times[:, :, 0], times[:, :, 1]
    a_first = order[..., None]
    work = np.broadcast_to(np.asarray(effect, np.float64), (suites,))[:, None, None]
    return np.where(a_first, first, second), np.where(a_first, second, first) + work


def log_times(rng: np.random.Generator, machine: Machine, suites: int, visits: int) -> np.ndarray:
    """Simulate one program in fresh processes, one after the other: [suites, visits, samples]."""
    luck = scatter(rng, machine, machine.luck, (suites, visits, 1))
    return _states(rng, machine, suites, visits) + luck


def _states(rng: np.random.Generator, machine: Machine, suites: int, visits: int) -> np.ndarray:
    """Simulate the machine's effect on samples, whatever the process: [suites, visits, samples]."""
    shape = (suites, visits, SAMPLES)
    if machine.memory:
        state = machine.drift * autoregression(rng, machine.memory, (suites, visits))[..., None]
        return state + machine.jitter * autoregression(rng, machine.memory, shape)
    step = machine.drift / math.sqrt(SAMPLES)
    walk = np.cumsum(
        rng.normal(machine.warming / SAMPLES, step, (suites, visits * SAMPLES)), axis=1
    )
    if machine.bursts:
        walk += math.log1p(machine.burst) * burst_times(rng, machine.bursts, suites, visits)
    return walk.reshape(shape) + scatter(rng, machine, machine.jitter, shape)


def scatter(
    rng: np.random.Generator, machine: Machine, size: float, shape: tuple[int, ...]
) -> np.ndarray:
    """Draw logarithms of a scatter of this size: normal, or only adding time if it is skewed."""
    drawn = rng.standard_normal(shape)
    return np.log1p(size * np.exp(drawn)) if machine.skewed else size * drawn


def autoregression(rng: np.random.Generator, keep: float, shape: tuple[int, ...]) -> np.ndarray:
    """Draw a first-order autoregression along the last axis, with unit variance everywhere.

    x[i] = keep · x[i - 1] + sqrt(1 - keep²) · noise[i]
    """
    out = rng.standard_normal(shape)
    for i in range(1, shape[-1]):
        out[..., i] = keep * out[..., i - 1] + math.sqrt(1 - keep**2) * out[..., i]
    return out


def burst_times(rng: np.random.Generator, chance: float, suites: int, visits: int) -> np.ndarray:
    """Draw [suites, visits * samples]: 1.0 while another program runs."""
    suite, visit = np.nonzero(rng.random((suites, visits)) < chance)
    start = visit * SAMPLES + rng.integers(SAMPLES, size=len(visit))
    length = rng.geometric(1 / (1.5 * SAMPLES), size=len(visit))
    change = np.zeros((suites, visits * SAMPLES + 1))
    np.add.at(change, (suite, start), 1)
    np.add.at(change, (suite, np.minimum(start + length, visits * SAMPLES)), -1)
    return (np.cumsum(change, axis=1)[:, :-1] > 0).astype(np.float64)


def chunks(order: np.ndarray, suites: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield slices of suites that fit into memory, each with its schedules (reused in turn)."""
    for start in range(0, suites, CHUNK):
        part = slice(start, min(start + CHUNK, suites))
        yield part, order[np.arange(part.start, part.stop) % len(order)]


def differences(a: np.ndarray, b: np.ndarray, turns: bool = False) -> np.ndarray:
    """Return d = ln(time of A) - ln(time of B) by block, as the tool computes it.

    Of the medians of log samples or, if the visits were interleaved, of their differences.
    """
    if turns:
        return np.median(a - b, axis=-1)
    return np.median(a, axis=-1) - np.median(b, axis=-1)


class Judged(NamedTuple):
    """What the tool says about each suite."""

    blocks: np.ndarray
    """[suites] number of blocks used."""
    t: intervals.Interval


def fixed(d: np.ndarray, blocks: int) -> Judged:
    """Judge the first `blocks` blocks of each suite."""
    return Judged(np.full(len(d), blocks), intervals.t_interval(d[:, :blocks]))


def staged(d: np.ndarray) -> Judged:
    """Judge as at scale `full`: add blocks until the interval is narrow enough, or all are used."""
    judged = fixed(d, STAGES[0])
    for blocks in STAGES[1:]:
        wide = half_width(judged.t) > HALF_WIDTH
        more = fixed(d, blocks)
        t = (np.where(wide, new, old) for new, old in zip(more.t, judged.t, strict=True))
        judged = Judged(np.where(wide, blocks, judged.blocks), intervals.Interval(*t))
    return judged


def half_width(t: intervals.Interval) -> np.ndarray:
    """Return half the width of the log interval, as `Comparison.half_width`."""
    return (t.high - t.low) / 2


def different(t: intervals.Interval) -> np.ndarray:
    """Return whether the interval excludes a ratio of 1."""
    return (t.low > 0) | (t.high < 0)


def verdicts(t: intervals.Interval) -> np.ndarray:
    """Return the verdict on B for each suite: -1 SLOWER, 1 FASTER, 0 neither."""
    signs = {"FASTER": 1, "SLOWER": -1}
    rows = zip(t.mean, t.low, t.high, t.p, strict=True)
    return np.array([signs.get(intervals.verdict(*map(float, row)), 0) for row in rows])


def _cell(label: str) -> Cell:
    return Cell("ppo", "torch", "eager", "gymnasium/CartPole-v1", "host", "update", label=label)


def records(a: np.ndarray, b: np.ndarray, turns: bool = False) -> list[dict[str, Any]]:
    """Return one suite, [blocks, samples] each, as the records that a real run would store."""
    stored = []
    for label, times in zip("AB", (a, b), strict=True):
        cell = _cell(label)
        for block, samples in enumerate(times):
            stored.append(
                {
                    **empty_result("ok", ""),
                    "kind": "visit",
                    "run_id": "simulated",
                    "fingerprint": "",
                    "status": "ok",
                    "cell_id": cell.id,
                    "group": cell.group,
                    "cell": {**vars(cell)},
                    "units_per_sample": 1,
                    "unit": "units",
                    "block": block,
                    "samples_s": np.exp(samples).tolist(),
                    "turns": str(block) if turns else "",
                }
            )
    return stored


def share(values: Sequence[bool] | np.ndarray, digits: int = 5) -> float:
    """Return the share of True values, rounded for a record."""
    return round(float(np.mean(values)), digits)
