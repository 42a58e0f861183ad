"""A loop run to its number of steps; logging, evaluations and checkpoints happen outside."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
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
    compiled: int
    """Programs compiled (or functions traced) meanwhile."""
    is_steady: bool
    """Whether this is training at its lasting speed: the agent learns, not for the first time in
    this process, and nothing compiles. Only such intervals make up a run's rate."""


def run_intervals(
    loop: Loop,
    total_steps: int,
    stop_every: Sequence[int],
    stop: threading.Event,
    announce: Callable[[str], None] = lambda text: None,
) -> Iterator[Interval]:
    """Run `loop` until it has taken `total_steps`, or `stop` is set; yield every interval.

    Intervals last about LOG_EVERY_S. They also end with the iteration that reaches a multiple of
    any number in `stop_every` (0: none), so that the caller can evaluate and store checkpoints
    there, and where filling the replay ends and learning begins. The first interval of either is
    one iteration: it compiles, and as little else as possible shares its time. How the iterations
    are divided into runs and intervals changes no number. `announce` is called with what takes long
    before it begins.
    """
    iterations_per_run = loop.iterations_per_run
    runs, kinds_so_far = 1, set[bool]()
    while loop.steps < total_steps and not stop.is_set():
        end = _next_stop(loop.steps, total_steps, stop_every)
        fills_replay = loop.is_warmup
        is_first = fills_replay not in kinds_so_far
        kinds_so_far.add(fills_replay)
        if is_first:
            if not fills_replay and loop.runtime.mode != "eager":
                announce("compiling the update …")
            interval = _run_interval(loop, 1, 1, end, stop)
            runs = 1  # it says nothing about the next
        else:
            interval = _run_interval(loop, runs, iterations_per_run, end, stop)
            fitting = int(len(interval.progress) * LOG_EVERY_S / interval.seconds)
            runs = max(1, min(2 * runs, fitting))
        is_steady = not (fills_replay or is_first or interval.compiled)
        yield interval._replace(is_steady=is_steady)


def passes_multiple(every: int, last: int, steps: int) -> bool:
    """Return whether a multiple of `every` lies in (last, steps]; never for 0."""
    return bool(every) and steps // every > last // every


def _next_stop(steps: int, total_steps: int, stop_every: Sequence[int]) -> int:
    multiples = [(steps // every + 1) * every for every in stop_every if every]
    return min([total_steps, *multiples])


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
