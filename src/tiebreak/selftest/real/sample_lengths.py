"""Check that a call takes the same time in a short and in a long sample: `sample-length`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.bench.machine.availability import why_unavailable
from tiebreak.bench.record import Record
from tiebreak.bench.suite.plan import Cell
from tiebreak.selftest.base import Context, Outcome
from tiebreak.selftest.real import races
from tiebreak.selftest.workloads.sample_lengths import LENGTHS, probe_and_length

SUBJECT = "tiebreak.selftest.workloads.sample_lengths:make_subject"
PROBES = ("forward", "interact", "update", "iteration", "train")
BOUND = 0.02
SHORTEST_S = {"smoke": 0.1, "quick": 0.4, "full": 0.4}
"""Seconds of a short sample. Below 0.4 s, what it costs to fill JAX's pipeline would show."""

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
    rounds = ctx.count(1, 3, 6)
    samples = len(LENGTHS) * (rounds + 1)  # the first round begins during the warm-up
    effort = replace(races.EFFORT, samples=samples, steady_s=0.01, longest_s=600.0, most_calls=1)
    records: list[Record] = []
    for name in names:
        ctx.say(f"{name}: {len(PROBES)} probes")
        records += races.race(ctx, name, cells[name], 1, effort, SUBJECT)

    ratios = per_call_ratios(records)
    passed = len(ratios) == len(names) * len(PROBES) and not races.failures(records)
    passed = passed and all(abs(ratio - 1) <= BOUND for ratio in ratios.values())
    counts = {"ratios": ratios, **races.disturbance(records)}
    return Outcome(passed, counts, f"{_describe(ratios)}; {races.describe_disturbance(counts)}")


def _cells(framework: str, shortest_s: float) -> tuple[Cell, ...]:
    mode = registry.mode(framework, None)
    cell = replace(races.cell("torch", "", ""), framework=framework, mode=mode)
    names = [f"{probe} in samples of {shortest_s} s" for probe in PROBES]
    return tuple(replace(cell, probe=name) for name in names)


def per_call_ratios(records: Iterable[Record]) -> dict[str, float]:
    """Return `framework probe` -> the time of a call in long samples over that in short ones.

    It is the median over rounds of n, 8n, 8n and n calls, within which a machine changes little.
    """
    ratios = {}
    for record in races.visits(records):
        if record["status"] != "ok":
            continue
        turns = len(LENGTHS)
        begun = -(record["work"]["calls"] - len(record["samples_s"])) % turns
        samples = np.array(record["samples_s"][begun:])
        rounds = samples[: len(samples) // turns * turns].reshape(-1, turns)
        short, long = rounds[:, [0, 3]].sum(axis=1), rounds[:, [1, 2]].sum(axis=1)
        if len(rounds):
            probe, _ = probe_and_length(record["cell"]["probe"])
            ratios[f"{record['cell']['framework']} {probe}"] = float(np.median(long / short)) / (
                LENGTHS[1] / LENGTHS[0]
            )
    return ratios


def _describe(ratios: dict[str, Any]) -> str:
    if not ratios:
        return "no visit finished"
    name, ratio = max(ratios.items(), key=lambda item: abs(item[1] - 1))
    return f"{len(ratios)} probes; the most, {name}: {ratio - 1:+.1%} a call in 8 times as many"
