"""Estimate how long runs take: for `--dry-run`, for the time left, and for the budget.

How long the parts of a run of each cell take is in suite/durations.py: measured on this machine, if
the cell has been, otherwise elsewhere. Here they are put together for an amount of measuring. The
constants are medians of the records of results/amd-epyc-2-cores, rounded.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

from tiebreak import registry
from tiebreak.bench.probe_table import PROBES
from tiebreak.bench.suite.durations import Durations, shipped
from tiebreak.bench.suite.plan import COLD_S, Cell, Effort, Plan, Run, Scale

START_S = 0.9
"""Start and end of a process."""

TURN_S = 0.03
"""A turn besides its calls: waiting until threads are at rest, and synchronisation."""

CHECK_S = 0.1
"""Check for unfinished work after the samples, and garbage collection."""

READING_S = 0.02
"""One reading of the memory series besides its call."""

STRETCHED = 5
"""Samples of the first block that check for unfinished work."""

CANARIES_S = 0.5
"""The two canaries of an interleaving."""

TOGETHER = 0.65
"""Time to prepare two processes at the same time, as a share of one after the other."""


def expected_s(
    settings: Scale,
    cells: Sequence[Cell],
    cold: bool | None = None,
    durations: Durations | None = None,
) -> float:
    """Return seconds of a run of these cells, in all phases.

    `cold`: the compile cache is empty; None: as the cells say.
    """
    durations = durations or shipped()
    load_s = max(durations.of(cell).load_s for cell in cells)
    probes_s = sum(probe_s(settings.effort, cell, cold, durations) for cell in cells)
    return START_S + load_s + probes_s


def probe_s(
    effort: Effort, cell: Cell, cold: bool | None = None, durations: Durations | None = None
) -> float:
    """Return seconds of one probe of a process that has started."""
    effort, duration = _effort(effort, cell), (durations or shipped()).of(cell)
    is_cold = cell.cache == "cold" if cold is None else cold
    seconds = duration.cold_s if is_cold else duration.warm_s
    seconds += duration.prepare_s
    seconds += CHECK_S if _is_once(cell) else _others_s(effort, duration.call_s)
    return seconds + turns_s(effort, cell, durations)


def once_s(effort: Effort, cell: Cell, durations: Durations | None = None) -> float:
    """Return seconds that a probe takes in its first block only: memory, and a last check."""
    call_s = (durations or shipped()).of(cell).call_s
    if _is_once(cell):
        return 0.0
    memory_s = min(effort.memory_calls * (call_s + READING_S), effort.longest_s + call_s)
    return memory_s + STRETCHED * max(call_s, effort.sample_s)


def turn_s(effort: Effort, cell: Cell, durations: Durations | None = None) -> float:
    """Return seconds of one turn: a call off the clock, unless calls are long, and a sample."""
    call_s = (durations or shipped()).of(cell).call_s
    off_clock_s = 0.0 if call_s > COLD_S or _is_once(cell) else call_s
    return _sample_s(_effort(effort, cell), call_s) + off_clock_s + TURN_S


def turns_s(effort: Effort, cell: Cell, durations: Durations | None = None) -> float:
    """Return seconds of all turns that a cell needs."""
    effort = _effort(effort, cell)
    sample_s = _sample_s(effort, (durations or shipped()).of(cell).call_s)
    turns = max(effort.samples, math.ceil(effort.steady_s / sample_s))
    if turns * sample_s > effort.longest_s and not _is_once(cell):
        turns = max(3, math.ceil(effort.longest_s / sample_s))
    return turns * turn_s(effort, cell, durations)


def certificate_s(algorithms: Collection[str], frameworks: Collection[str]) -> float:
    """Return seconds of a short certificate; a framework is checked over each of its libraries."""
    rows = [registry.FRAMEWORKS[name] for name in frameworks]
    checked = sum(1 if row.runtime else len(row.modes) for row in rows)
    return checked * sum(registry.ALGORITHMS[name].certificate_s for name in algorithms)


def _is_once(cell: Cell) -> bool:
    """Return True if a probe is one call."""
    return cell.probe in PROBES and PROBES[cell.probe].once


def _effort(effort: Effort, cell: Cell) -> Effort:
    """Return the amount of measuring of a cell."""
    return effort.once() if _is_once(cell) else effort


def _others_s(effort: Effort, call_s: float) -> float:
    """Return seconds of warm-up, calibration and checks."""
    calls_s = min(effort.silent_calls * call_s, effort.warmup_s + call_s)
    return calls_s + 2 * _sample_s(effort, call_s) + CHECK_S


def _sample_s(effort: Effort, call_s: float) -> float:
    """Return seconds of a sample: of whole calls, so that it lasts a little longer than it must."""
    return max(call_s, 1.1 * effort.sample_s)


class Forecast(NamedTuple):
    """Runs, blocks and time of a plan. A warm cache is empty in the first block."""

    visits_per_block: int
    """Runs in a block."""
    least_blocks: int
    most_blocks: int
    certificate_s: float | None
    """Seconds of the certificate; None if there is one of unknown duration."""
    calibration_s: float
    first_block_s: float
    block_s: float
    """Seconds of each later block."""
    least_s: float
    most_s: float


def forecast(
    plan: Plan, unavailable: Collection[str] = (), durations: Durations | None = None
) -> Forecast:
    """Return runs, blocks and time of a plan, without the cells whose ids are `unavailable`."""
    settings, durations = plan.settings, durations or shipped()
    interleavings = _available(plan, unavailable)

    def block_s(first: bool, rounds: int) -> float:
        parts = [_interleaving_s(plan, runs, first, rounds, durations) for runs in interleavings]
        return sum(parts)

    first_s, later_s = block_s(True, settings.rounds), block_s(False, settings.rounds)
    calibration_s = first_s if settings.calibration else 0.0
    certificate_s = _certificate_s(plan, interleavings)
    start_s = calibration_s
    if settings.budget_s is None:  # otherwise it is made after the blocks, if there is time
        start_s += certificate_s or 0.0
    begins = not settings.calibration
    blocks_s = _blocks_in_time(
        settings,
        start_s,
        wanted_s=[first_s if begins else later_s, *[later_s] * (settings.blocks - 1)],
        least_s=[
            block_s(begins and index == 0, min(settings.rounds, settings.effort.samples))
            for index in range(min(settings.least_blocks, settings.blocks))
        ],
    )
    most = len(blocks_s)
    least = min(settings.stages[0], most) if settings.stages else most
    return Forecast(
        visits_per_block=sum(map(len, interleavings)),
        least_blocks=least,
        most_blocks=most,
        certificate_s=certificate_s,
        calibration_s=calibration_s,
        first_block_s=blocks_s[0],
        block_s=later_s,
        least_s=start_s + sum(blocks_s[:least]),
        most_s=start_s + sum(blocks_s),
    )


def _available(plan: Plan, unavailable: Collection[str]) -> list[list[Run]]:
    """Return the interleavings of a block without runs of cells that are unavailable."""
    interleavings = []
    for runs in plan.block(0):
        left = [run for run in runs if not {cell.id for cell in run.cells} & set(unavailable)]
        if left:
            interleavings.append(left)
    return interleavings


def _interleaving_s(
    plan: Plan, runs: Sequence[Run], first: bool, rounds: int, durations: Durations
) -> float:
    """Return seconds of an interleaving in the first block, or in a later one.

    `rounds` is the number of samples in turns; 0: as many as each run needs.
    """
    settings, seconds = plan.settings, CANARIES_S
    for run in runs:
        cells = [c for c in run.cells if not settings.first or c.probe in settings.first]
        cells = cells or list(run.cells)
        run_s = expected_s(settings, cells, first or None, durations)
        turns = sum(turns_s(settings.effort, cell, durations) for cell in cells)
        together = TOGETHER if settings.start_at_once > 1 and not first else 1.0
        seconds += together * (run_s - turns)
        if rounds:
            turns = rounds * sum(turn_s(settings.effort, c, durations) for c in cells)
        seconds += turns
        if first:
            seconds += sum(once_s(settings.effort, cell, durations) for cell in cells)
    return seconds


def _certificate_s(plan: Plan, interleavings: Sequence[Sequence[Run]]) -> float | None:
    if not plan.settings.certificate:
        return 0.0
    if plan.scale == "full":
        return None
    cells = [cell for runs in interleavings for run in runs for cell in run.cells]
    frameworks = {cell.framework for cell in cells} & registry.FRAMEWORKS.keys()
    return certificate_s({cell.algorithm for cell in cells}, frameworks)


def _blocks_in_time(
    settings: Scale, start_s: float, wanted_s: Sequence[float], least_s: Sequence[float]
) -> list[float]:
    """Return the seconds of each block that the manager will start within its limits.

    Args:
        wanted_s: Of each block, with all rounds that are aimed at.
        least_s: Of each of the `least_blocks`, with few rounds.
    """
    blocks_s: list[float] = []
    for index, seconds in enumerate(wanted_s):
        has_to = index < len(least_s)
        limit_s = settings.limit_s if index < settings.least_blocks else settings.budget_s
        spent_s = start_s + sum(blocks_s)
        if limit_s is not None:
            needed_s = least_s[index] if has_to else seconds
            if index and spent_s + needed_s > limit_s:
                break
            if has_to:  # rounds give way to what has to follow
                left_s = limit_s - spent_s - sum(least_s[index + 1 :])
                seconds = min(seconds, max(needed_s, left_s))
        blocks_s.append(seconds)
    return blocks_s
