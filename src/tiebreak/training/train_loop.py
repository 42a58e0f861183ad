"""A loop run to its number of steps; logging, evaluations and checkpoints happen outside."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tiebreak import registry
from tiebreak.loops.base import Loop, Progress

LOG_EVERY_S = 1.0
"""Approximate seconds between two readings of the device."""


class Interval(NamedTuple):
    """Runs of a loop from one reading of the device to the next."""

    progress: tuple[Progress, ...]
    """Progress of each run, as NumPy."""
    steps: int
    """Environment steps; of a population, of each agent."""
    seconds: float
    """Wall time, until the progress was read."""
    compiled: int
    """Programs compiled (or functions traced) meanwhile."""
    is_steady: bool
    """Whether this is training at its lasting speed: the agent learns, not for the first time in
    this process, and nothing compiles. Only such intervals make up a run's rate."""


class Change(NamedTuple):
    """Where a runtime in mode `auto` goes on compiled."""

    steps: int = 0
    """Environment steps before it; 0: it never does, or was compiled from the start."""
    prepare: Callable[[threading.Event], None] = lambda stop: None
    """Called there, before the first compiled run; returns soon after the event is set."""


class Phase(NamedTuple):
    """What a loop does in an interval."""

    fills_replay: bool
    """It fills the replay, and learns nothing yet."""
    is_compiled: bool
    """It runs compiled, or will from its first call on."""


def run_intervals(
    loop: Loop,
    total_steps: int,
    stop_every: Sequence[int],
    stop: threading.Event,
    announce: Callable[[str], None] = lambda text: None,
    change: Change = Change(),  # noqa: B008, it is immutable
    agree: Callable[[int], int] = lambda runs: runs,
) -> Iterator[Interval]:
    """Run `loop` until it has taken `total_steps`, or `stop` is set; yield every interval.

    Intervals last about LOG_EVERY_S. They also end with the iteration that reaches a multiple of
    any number in `stop_every` (0: none), so that the caller can evaluate and store checkpoints
    there, at a `change` of mode `auto`, and where filling the replay ends and learning begins. The
    first interval of each phase is one iteration: it compiles, and little else shares its time.
    How iterations are divided into runs changes no number. `announce` is called with what begins
    and takes long, `agree` with the runs of the next interval: it returns all ranks', or 0 to end.
    """
    iterations_per_run, runs, phases_so_far = loop.iterations_per_run, 1, set[Phase]()
    while loop.steps < total_steps and not stop.is_set():
        end = _next_stop(loop.steps, total_steps, stop_every, change)
        if not (runs := agree(runs)):
            return
        phase = _phase(loop, change)
        is_first = phase not in phases_so_far
        phases_so_far.add(phase)
        if is_first:
            prepared_s = _prepare_phase(loop, phase, change, stop, announce)
            if stop.is_set():
                return
            interval = _run_interval(loop, 1, 1, end, stop)
            interval = interval._replace(seconds=prepared_s + interval.seconds)
            runs = 1  # it says nothing about the next
        else:
            interval = _run_interval(loop, runs, iterations_per_run, end, stop)
            fitting = int(len(interval.progress) * LOG_EVERY_S / interval.seconds)
            runs = max(1, min(2 * runs, fitting))
        changes_later = change.steps > 0 and not phase.is_compiled
        is_steady = not (phase.fills_replay or is_first or changes_later or interval.compiled)
        yield interval._replace(is_steady=is_steady)


def _phase(loop: Loop, change: Change) -> Phase:
    modes_as_written = ("eager", registry.AUTO)
    is_compiled = loop.runtime.mode not in modes_as_written or 0 < change.steps <= loop.steps
    return Phase(loop.is_warmup, is_compiled)


def _prepare_phase(
    loop: Loop,
    phase: Phase,
    change: Change,
    stop: threading.Event,
    announce: Callable[[str], None],
) -> float:
    """Change to compiled code before the first iteration of a phase, if that is due.

    Returns the seconds that it took.
    """
    if phase.is_compiled and not phase.fills_replay:
        announce("compiling the update …")
    start_s = time.perf_counter()
    if 0 < change.steps <= loop.steps:
        change.prepare(stop)
        loop.runtime.start_compiling()
    return time.perf_counter() - start_s


def passes_multiple(every: int, last: int, steps: int) -> bool:
    """Return whether a multiple of `every` lies in (last, steps]; never for 0."""
    return bool(every) and steps // every > last // every


def _next_stop(steps: int, total_steps: int, stop_every: Sequence[int], change: Change) -> int:
    multiples = [(steps // every + 1) * every for every in stop_every if every]
    changes = [change.steps] if steps < change.steps else []
    return min([total_steps, *multiples, *changes])


def _run_interval(
    loop: Loop, runs: int, iterations_per_run: int, end: int, stop: threading.Event
) -> Interval:
    """Run the loop up to `runs` times, not beyond the iteration that reaches step `end`.

    Stops where filling the replay ends, too. `is_steady` is left to the caller.
    """
    start_s, start_steps, fills_replay = time.perf_counter(), loop.steps, loop.is_warmup
    compiled_before = loop.runtime.compile_count()
    progress: list[Any] = []
    while len(progress) < runs and loop.steps < end and loop.is_warmup == fills_replay:
        if progress and stop.is_set():
            break
        iterations = math.ceil((end - loop.steps) / loop.config.iteration_steps)
        loop.iterations_per_run = min(iterations_per_run, iterations)
        progress.append(loop.run())

    read = loop.runtime.to_numpy(tuple(progress))
    return Interval(
        progress=read,
        steps=loop.steps - start_steps,
        seconds=time.perf_counter() - start_s,
        compiled=loop.runtime.compile_count() - compiled_before,
        is_steady=False,
    )
