"""Check that a call takes the same time in a short and in a long sample: `sample-length`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from tiebreak import registry
from tiebreak.bench.machine.availability import why_unavailable
from tiebreak.bench.record import Record
from tiebreak.bench.suite.plan import Cell
from tiebreak.selftest.base import Context, Outcome
from tiebreak.selftest.real import races
from tiebreak.selftest.workloads.sample_lengths import LENGTHS, probe_and_length
from tiebreak.stats.intervals import Interval, t_interval

SUBJECT = "tiebreak.selftest.workloads.sample_lengths:make_subject"
PROBES = ("forward", "interact", "update", "iteration", "train")
BOUND = 0.02
"""Largest relative difference of a call in samples of the two lengths."""
WIDEST = {"smoke": math.inf, "quick": 0.15, "full": 0.15}
"""Largest half-width of an interval for the check to have told anything. What samples used to do
(decision 0038) made a call take 1.4 to 1.8 times as long."""
LEVEL = 0.05
"""Probability, at most, that the check fails by chance, over all of its probes."""
SHORTEST_S = {"smoke": 0.1, "quick": 0.2, "full": 0.2}
"""Seconds of a short sample. In 0.1 s, what it costs to fill JAX's pipeline would show. Longer ones
make longer rounds, and fewer: for seconds on end a virtual machine gives less of its CPUs."""

ONE_OF_EACH_RUNTIME = ("torch", "tensorflow", "linen")
"""Frameworks at smoke and quick; at full, all."""


def sample_length(ctx: Context) -> Outcome:
    """Measure each probe of each framework in samples of n and of 8n calls, in turns."""
    cells = {name: _cells(name, SHORTEST_S[ctx.scale]) for name in registry.FRAMEWORKS}
    names = [name for name, row in cells.items() if not why_unavailable(row[0])]
    if ctx.scale != "full":
        names = [name for name in names if name in ONE_OF_EACH_RUNTIME]
    if not names:
        return Outcome(None, {}, "none of the frameworks is installed")
    rounds = ctx.count(2, 12, 24)
    samples = len(LENGTHS) * (rounds + 1)  # the first round begins during the warm-up
    effort = replace(races.EFFORT, samples=samples, steady_s=0.01, longest_s=600.0, most_calls=1)
    records: list[Record] = []
    for name in names:
        ctx.say(f"{name}: {len(PROBES)} probes")
        records += races.race(ctx, name, cells[name], 1, effort, SUBJECT)

    found = per_call_intervals(records, LEVEL / (len(names) * len(PROBES)))
    passed = len(found) == len(names) * len(PROBES) and not races.failures(records)
    passed = passed and not any(surely_differs(interval) for interval in found.values())
    passed = passed and max(map(half_width, found.values())) <= WIDEST[ctx.scale]
    ratios = {name: [math.exp(x) for x in (i.mean, i.low, i.high)] for name, i in found.items()}
    counts = {"ratios": ratios, **races.disturbance(records)}
    return Outcome(passed, counts, f"{_describe(found)}; {races.describe_disturbance(counts)}")


def _cells(framework: str, shortest_s: float) -> tuple[Cell, ...]:
    mode = registry.mode(framework, None)
    cell = replace(races.cell("torch", "", ""), framework=framework, mode=mode)
    names = [f"{probe} in samples of {shortest_s} s" for probe in PROBES]
    return tuple(replace(cell, probe=name) for name in names)


def per_call_intervals(records: Iterable[Record], level: float) -> dict[str, Interval]:
    """Return `framework probe` -> the time of a call in long samples over that in short ones.

    The mean over rounds, within which a machine changes little, of the logarithm of the ratio.

    Args:
      records: all records of the check.
      level: 1 - nominal coverage of each interval.
    """
    found = {}
    for record in races.visits(records):
        if record["status"] != "ok":
            continue
        logs = round_logs(np.array(record["samples_s"]), record["work"]["calls"])
        probe, _ = probe_and_length(record["cell"]["probe"])
        if len(logs) > 1:
            found[f"{record['cell']['framework']} {probe}"] = t_interval(logs, level)
    return found


def round_logs(samples_s: np.ndarray, calls: int) -> np.ndarray:
    """Return, for each whole round, the logarithm of a call's time in long over short samples.

    Args:
      samples_s: [samples] seconds, without those of the warm-up.
      calls: samples taken, with those of the warm-up, which end within a round.
    """
    lengths = np.array(LENGTHS)
    begun = -(calls - len(samples_s)) % len(lengths)
    samples = samples_s[begun:]
    rounds = samples[: len(samples) // len(lengths) * len(lengths)].reshape(-1, len(lengths))
    is_long = lengths > 1
    long = rounds[:, is_long].sum(axis=1) / lengths[is_long].sum()
    short = rounds[:, ~is_long].sum(axis=1) / lengths[~is_long].sum()
    return np.log(long / short)


def surely_differs(interval: Interval) -> bool:
    """Return whether the whole interval lies outside of a ratio of 1 ± BOUND."""
    return bool(interval.low > math.log(1 + BOUND) or interval.high < math.log(1 - BOUND))


def half_width(interval: Interval) -> float:
    """Return half the width of an interval of logarithms."""
    return float(interval.high - interval.low) / 2


def _describe(found: dict[str, Interval]) -> str:
    if not found:
        return "no visit finished"
    worst = max(found, key=lambda name: abs(found[name].mean))
    interval = found[worst]
    ratios = [math.exp(x) - 1 for x in (interval.mean, interval.low, interval.high)]
    widest = max(map(half_width, found.values()))
    return (
        f"{len(found)} probes; the most, {worst}: {ratios[0]:+.1%} a call in 8 times as many "
        f"[{ratios[1]:+.1%}, {ratios[2]:+.1%}]; half-widths of {widest:.1%} or less"
    )
