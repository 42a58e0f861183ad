"""A virtual machine on which programs race: it drifts, each process has its luck, samples jitter.

Times are natural logarithms of seconds per unit. A *suite* is one run of two cells, A and B; arrays
are [suites, blocks, samples], so that thousands of suites are judged at once by the very functions
that judge real ones.
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
"""Of one visit."""
STAGES = (10, 20, 30, 50)
HALF_WIDTH = 0.015
"""The stopping rule of the scale `full`."""
CHUNK = 500
"""Suites simulated at a time; 500 of 50 blocks take 8 MB."""


class Machine(NamedTuple):
    """How a virtual machine disturbs what it runs. Standard deviations of logarithms."""

    drift: float
    """What one visit moves the whole machine, for ever: a random walk."""
    luck: float
    """Of a process: memory layout, hash seed, where its threads came to lie."""
    jitter: float
    """Of a sample."""
    warming: float = 0.0
    """What one visit slows the whole machine down, always: the reason for mirrored blocks."""
    bursts: float = 0.0
    """Chance that something else starts to run during a visit; it lasts 1.5 visits on average."""
    burst: float = 0.0
    """How much slower everything is meanwhile."""
    memory: float = 0.0
    """Not 0: no random walk, but a state that keeps this share of itself until the next visit, and
    samples that resemble their neighbours just as much."""
    skewed: bool = False
    """Luck and jitter are lognormal shares of time that only ever add."""
    turns: bool = False
    """Visits of a block sample in turns, as on a CPU; or one after the other, as on a GPU."""


LEVELS = {
    "quiet": Machine(drift=0.006, luck=0.006, jitter=0.015, warming=0.002),
    "usual": Machine(drift=0.03, luck=0.03, jitter=0.025, warming=0.01, bursts=0.02, burst=0.1),
    "rough": Machine(drift=0.07, luck=0.08, jitter=0.1, warming=0.02, bursts=0.05, burst=0.3),
    "turns": Machine(
        drift=0.1, luck=0.006, jitter=0.03, warming=0.02, bursts=0.2, burst=0.9, turns=True
    ),
}
"""Visits of one cell then scatter by about 1, 5 and 13 %: the least, the middle and the most of the
published runs on two cores. In the last one the machine is far worse, as two cores with neighbours
were on some days, and visits take turns."""


def orders(seed: int, suites: int, blocks: int = STAGES[-1]) -> np.ndarray:
    """Whether A goes before B, [suites, blocks], as the manager's own schedule has it."""
    plans = (plan(derive(seed, "plan", i)) for i in range(suites))
    firsts = [[p.block(k)[0][0].cells[0].label == "A" for k in range(blocks)] for p in plans]
    return np.array(firsts)


def plan(seed: int) -> Plan:
    """The simulated suite as a real one would be planned."""
    settings = Scale(blocks=STAGES[-1], stages=STAGES, half_width=HALF_WIDTH)
    return Plan("simulated", "full", seed, settings, tuple(_cell(label) for label in "AB"))


def race(
    rng: np.random.Generator, machine: Machine, order: np.ndarray, effect: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Log times of A and of B, whose work is exp(`effect`) (one, or one per suite) as much."""
    suites, blocks = order.shape
    times = _states(rng, machine, suites, 2 * blocks).reshape(suites, blocks, 2, SAMPLES)
    if machine.turns:
        rounds = times.reshape(suites, blocks, SAMPLES, 2)
        rounds[:, :, 1::2] = rounds[:, :, 1::2, ::-1].copy()  # each the other way round
        times = np.moveaxis(rounds, -1, 2)
    times = times + _scatter(rng, machine, machine.luck, (suites, blocks, 2, 1))
    first, second = times[:, :, 0], times[:, :, 1]
    a_first = order[..., None]
    work = np.broadcast_to(np.asarray(effect, np.float64), (suites,))[:, None, None]
    return np.where(a_first, first, second), np.where(a_first, second, first) + work


def log_times(rng: np.random.Generator, machine: Machine, suites: int, visits: int) -> np.ndarray:
    """One program in fresh processes, one after the other: [suites, visits, samples]."""
    luck = _scatter(rng, machine, machine.luck, (suites, visits, 1))
    return _states(rng, machine, suites, visits) + luck


def _states(rng: np.random.Generator, machine: Machine, suites: int, visits: int) -> np.ndarray:
    """What the machine does to the samples of these visits, whichever process they are of."""
    shape = (suites, visits, SAMPLES)
    if machine.memory:
        state = machine.drift * remembering(rng, machine.memory, (suites, visits))[..., None]
        return state + machine.jitter * remembering(rng, machine.memory, shape)
    step = machine.drift / math.sqrt(SAMPLES)
    walk = np.cumsum(
        rng.normal(machine.warming / SAMPLES, step, (suites, visits * SAMPLES)), axis=1
    )
    if machine.bursts:
        walk += math.log1p(machine.burst) * _bursts(rng, machine.bursts, suites, visits)
    return walk.reshape(shape) + _scatter(rng, machine, machine.jitter, shape)


def _scatter(
    rng: np.random.Generator, machine: Machine, size: float, shape: tuple[int, ...]
) -> np.ndarray:
    drawn = rng.standard_normal(shape)
    return np.log1p(size * np.exp(drawn)) if machine.skewed else size * drawn


def remembering(rng: np.random.Generator, keep: float, shape: tuple[int, ...]) -> np.ndarray:
    """A first-order autoregression along the last axis, with unit variance everywhere."""
    out = rng.standard_normal(shape)
    for i in range(1, shape[-1]):
        out[..., i] = keep * out[..., i - 1] + math.sqrt(1 - keep**2) * out[..., i]
    return out


def _bursts(rng: np.random.Generator, chance: float, suites: int, visits: int) -> np.ndarray:
    """1.0 while something else runs, [suites, visits * samples]."""
    suite, visit = np.nonzero(rng.random((suites, visits)) < chance)
    start = visit * SAMPLES + rng.integers(SAMPLES, size=len(visit))
    length = rng.geometric(1 / (1.5 * SAMPLES), size=len(visit))
    change = np.zeros((suites, visits * SAMPLES + 1))
    np.add.at(change, (suite, start), 1)
    np.add.at(change, (suite, np.minimum(start + length, visits * SAMPLES)), -1)
    return (np.cumsum(change, axis=1)[:, :-1] > 0).astype(np.float64)


def chunks(order: np.ndarray, suites: int) -> Iterator[tuple[slice, np.ndarray]]:
    """`suites` in parts that fit into memory, each with its schedules, which are used in turn."""
    for start in range(0, suites, CHUNK):
        part = slice(start, min(start + CHUNK, suites))
        yield part, order[np.arange(part.start, part.stop) % len(order)]


def differences(a: np.ndarray, b: np.ndarray, turns: bool = False) -> np.ndarray:
    """d = ln A - ln B by block, of medians in seconds; of neighbours' ratios if they took turns."""
    if turns:
        return np.log(np.median(np.exp(a - b), axis=-1))
    return np.log(np.median(np.exp(a), axis=-1)) - np.log(np.median(np.exp(b), axis=-1))


class Judged(NamedTuple):
    """What the tool says about each suite."""

    blocks: np.ndarray
    t: intervals.Interval


def fixed(d: np.ndarray, blocks: int) -> Judged:
    """The first `blocks` blocks of each suite."""
    return Judged(np.full(len(d), blocks), intervals.t_interval(d[:, :blocks]))


def staged(d: np.ndarray) -> Judged:
    """As at the scale `full`: more blocks until the interval is narrow enough, or all are used."""
    judged = fixed(d, STAGES[0])
    for blocks in STAGES[1:]:
        wide = half_width(judged.t) > HALF_WIDTH
        more = fixed(d, blocks)
        t = (np.where(wide, new, old) for new, old in zip(more.t, judged.t, strict=True))
        judged = Judged(np.where(wide, blocks, judged.blocks), intervals.Interval(*t))
    return judged


def half_width(t: intervals.Interval) -> np.ndarray:
    """Half the width of the interval, on the logarithm, as `Comparison.half_width`."""
    return (t.high - t.low) / 2


def different(t: intervals.Interval) -> np.ndarray:
    """Whether the interval excludes a ratio of 1."""
    return (t.low > 0) | (t.high < 0)


def verdicts(t: intervals.Interval) -> np.ndarray:
    """-1 SLOWER, 1 FASTER, 0 neither, for B against A."""
    names = {"FASTER": 1, "SLOWER": -1}
    found = [names.get(intervals.verdict(*map(float, row)), 0) for row in zip(*t[:4], strict=True)]
    return np.array(found)


def _cell(label: str) -> Cell:
    return Cell("ppo", "torch", "eager", "gymnasium/CartPole-v1", "host", "update", label=label)


def records(a: np.ndarray, b: np.ndarray, turns: bool = False) -> list[dict[str, Any]]:
    """One suite ([blocks, samples]) as the records that a real run would have stored."""
    out = []
    for label, times in zip("AB", (a, b), strict=True):
        cell = _cell(label)
        about = {"kind": "visit", "run_id": "simulated", "fingerprint": "", "status": "ok"}
        about |= {"cell_id": cell.id, "group": cell.group, "cell": {**vars(cell)}}
        about |= {"units_per_sample": 1, "unit": "units"}
        out += [
            {
                **empty_result("ok", ""), **about, "block": block,
                "samples_s": np.exp(samples).tolist(), "turns": str(block) if turns else "",
            }
            for block, samples in enumerate(times)
        ]  # fmt: skip
    return out


def share(values: Sequence[bool] | np.ndarray, digits: int = 5) -> float:
    """The mean of truths, rounded for a record."""
    return round(float(np.mean(values)), digits)
