"""Measure a callable: first call, warm-up until nothing compiles, calibration, samples.

All times come from the clock that is passed in.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tiebreak.bench.clock import Clock, time_calls
from tiebreak.bench.suite.plan import COLD_S, Effort
from tiebreak.bench.worker.turns import RUNNING_S, Dismissed, Turns
from tiebreak.stats.sample_flags import sample_flags

SETTLE_S, WINDOW_S, QUIET, WATCH_S = 0.04, 0.02, 0.05, 1.0
"""Limits by which `still_running` finds work that the clock missed. The process first gets 40 ms,
in which OpenMP's threads stop spinning. It is idle when it used less than 5 % of a CPU in two
windows of 20 ms. If that does not happen within 1 s, or after 30 ms of CPU time, work is still
running. See docs/decisions/0013."""

FIRST_CALLS = 8
"""Calls whose seconds are kept one by one: warming up can take more than the first."""

SHORT_CALLS = 0.1
"""Share of `warmup_s` that calls may take which are made only to complete the FIRST_CALLS."""


@dataclass(frozen=True)
class Timed:
    """A callable to be timed together with what synchronises it."""

    call: Callable[[], Any]
    state: Callable[[], Any]
    sync: Callable[[Any], None]
    clock: Clock = field(default_factory=Clock)
    once: bool = False
    """Its first call is the only one: none is made before it."""

    def seconds(self, n: int = 1) -> float:
        """Return seconds of `n` calls."""
        return time_calls(self.call, n, self.sync, self.state, self.clock)


@dataclass
class Warmup:
    """Outcome of the warm-up."""

    calls_s: list[float]
    """Seconds of each call."""
    silent: int = 0
    """Number of last calls in a row that compiled nothing."""

    @property
    def first_call_s(self) -> float:
        """Seconds of the first call."""
        return self.calls_s[0]

    @property
    def rest_s(self) -> float:
        """Seconds of all calls after the first."""
        return sum(self.calls_s[1:])

    @property
    def calls(self) -> int:
        """Number of calls."""
        return len(self.calls_s)


def warm_up(timed: Timed, compile_count: Callable[[], int], effort: Effort) -> Warmup:
    """Call until `effort.silent_calls` calls in a row compiled nothing.

    Short calls go on until FIRST_CALLS have been made.
    """
    before = compile_count()
    warmup = Warmup([timed.seconds()])
    after = compile_count()
    warmup.silent = 1 if after == before else 0

    limit = 20 * effort.silent_calls
    while not _is_warm(warmup, effort) and warmup.calls < limit:
        if warmup.rest_s >= effort.warmup_s and warmup.silent >= 1:
            break
        if warmup.rest_s >= 10 * effort.warmup_s and warmup.calls > effort.silent_calls:
            break
        before = after
        warmup.calls_s.append(timed.seconds())
        after = compile_count()
        warmup.silent = warmup.silent + 1 if after == before else 0
    return warmup


def _is_warm(warmup: Warmup, effort: Effort) -> bool:
    """Return True if enough calls compiled nothing, and enough of the first ones were short."""
    if warmup.silent < effort.silent_calls:
        return False
    return warmup.calls >= FIRST_CALLS or warmup.rest_s >= SHORT_CALLS * effort.warmup_s


def calibrate(timed: Timed, effort: Effort) -> int:
    """Return the number of calls that make one sample last `effort.sample_s`."""
    n = 1
    while n < effort.most_calls:
        seconds = timed.seconds(n)
        if seconds >= effort.sample_s:
            break
        wanted = math.ceil(1.1 * n * effort.sample_s / max(seconds, 1e-9))
        n = min(effort.most_calls, max(n + 1, min(wanted, 10 * n)))
    return n


def sample(
    timed: Timed,
    n: int,
    effort: Effort,
    samples: list[float],
    turns: Turns,
    disturbed: Callable[[], bool] = lambda: False,
) -> None:
    """Append the seconds of each sample of `n` calls to `samples`, until `turns` ends it.

    `disturbed` is asked after each sample, off the clock; True ends the sampling. After an
    exception the samples before it remain. Raises Dismissed if the worker is to end before the
    first sample.
    """
    total = 0.0
    while turns.next(
        enough=len(samples) >= effort.samples and total >= effort.steady_s,
        spent=len(samples) >= 3 and total >= effort.longest_s,
    ):
        if turns.shared and not timed.once and (not samples or samples[-1] < COLD_S * n):
            timed.seconds()
        samples.append(timed.seconds(n))
        total += samples[-1]
        if disturbed():
            break
    if turns.is_last and not samples:
        raise Dismissed


def still_running(clock: Clock) -> float:
    """Return the number of CPUs that this process keeps busy after its samples; 0 if it is idle.

    Work that `sync` did not wait for, and the clock therefore missed, is still running here.
    """
    clock.pause(SETTLE_S)
    start, first = clock.now_ns(), clock.cpu_ns()
    now, used, quiet = start, first, 0
    while quiet < 2 and now - start < WATCH_S * 1e9 and used - first <= RUNNING_S * 1e9:
        clock.pause(WINDOW_S)
        before, now = now, clock.now_ns()
        spent, used = clock.cpu_ns() - used, clock.cpu_ns()
        quiet = quiet + 1 if spent < QUIET * (now - before) else 0
    return (used - first) / (now - start) if used - first > RUNNING_S * 1e9 else 0.0


def flags(samples: list[float], effort: Effort, shared: bool = False) -> dict[str, float]:
    """Return the flags of a series of samples, each with its measured value.

    Where runs are interleaved (`shared`), noise is what a cell does not have in common with the
    others, which is computed from all records: stats/interleaved_pairs.py.
    """
    measured = {} if shared else sample_flags(samples)
    if len(samples) < effort.samples:
        measured["too_short"] = float(len(samples))
        return measured

    median = statistics.median(samples)
    if median < 0.5 * effort.sample_s:
        measured["too_short"] = median
    return measured
