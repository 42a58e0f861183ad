"""A loop run to its number of steps; logging, evaluations and checkpoints happen outside."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

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


def run_intervals(
    loop: Loop, total_steps: int, stop_every: Sequence[int], stop: threading.Event
) -> Iterator[Interval]:
    """Run `loop` until it has taken `total_steps`, or `stop` is set; yield every interval.

    Intervals last about LOG_EVERY_S. They also end with the iteration that reaches a multiple of
    any number in `stop_every` (0: none), so that the caller can evaluate and store checkpoints
    there. How the iterations are divided into runs and intervals changes no number.
    """
    iterations_per_run = loop.iterations_per_run
    runs = 1
    while loop.steps < total_steps and not stop.is_set():
        end = _next_stop(loop.steps, total_steps, stop_every)
        interval = _run_interval(loop, runs, iterations_per_run, end, stop)
        yield interval

        # At most doubled: the first run compiles, and says little about the next.
        fitting = int(len(interval.progress) * LOG_EVERY_S / interval.seconds)
        runs = max(1, min(2 * runs, fitting))


def passes_multiple(every: int, last: int, steps: int) -> bool:
    """Return whether a multiple of `every` lies in (last, steps]; never for 0."""
    return bool(every) and steps // every > last // every


def _next_stop(steps: int, total_steps: int, stop_every: Sequence[int]) -> int:
    multiples = [(steps // every + 1) * every for every in stop_every if every]
    return min([total_steps, *multiples])


def _run_interval(
    loop: Loop, runs: int, iterations_per_run: int, end: int, stop: threading.Event
) -> Interval:
    """Run the loop up to `runs` times, not beyond the iteration that reaches step `end`."""
    start_s, start_steps = time.perf_counter(), loop.steps
    progress: list[Any] = []
    while len(progress) < runs and loop.steps < end and not (progress and stop.is_set()):
        iterations = math.ceil((end - loop.steps) / loop.config.iteration_steps)
        loop.iterations_per_run = min(iterations_per_run, iterations)
        progress.append(loop.run())

    read = loop.runtime.to_numpy(tuple(progress))
    seconds = time.perf_counter() - start_s
    return Interval(read, loop.steps - start_steps, seconds)
