"""How a probe is measured: first call, calls until nothing compiles, calibration, samples, rest.

All times come from the clock that is passed in.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tiebreak.bench.worker.clock import Clock, time_calls
from tiebreak.bench.worker.turns import RUNNING_S, Turns
from tiebreak.stats.sample_flags import noise

SETTLE_S, WINDOW_S, QUIET, WATCH_S = 0.04, 0.02, 0.05, 1.0
"""After the clock has stopped the process is given 40 ms, in which OpenMP's threads end their spin.
It is idle when it has used less than 5 % of a CPU in two windows of 20 ms. If it has not come to
that within 1 s, or has used 30 ms of CPU before, work was running on. See docs/decisions/0013."""

COLD_S = 1.0
"""Others have used the caches since this visit's last turn: the first call is slower by some 5 ms.
It goes before the sample, off the clock, unless calls last so long that it is no matter."""


@dataclass(frozen=True)
class Effort:
    """How much a visit measures; a scale of a suite sets it. All times in seconds."""

    sample_s: float = 0.4
    """A sample lasts at least this long: calls are repeated until it does. From idle, JAX has its
    pipeline to fill: 1 to 3 ms of each sample, which must stay below 1 % of it."""
    samples: int = 20
    """At least this many samples,"""
    steady_s: float = 2.0
    """lasting at least this long together."""
    longest_s: float = 120.0
    """Sampling ends after this long even with fewer samples; too_short is flagged then. So does the
    memory series."""
    silent_calls: int = 5
    """Warm-up ends when this many calls in a row compiled nothing,"""
    warmup_s: float = 60.0
    """or, for slow calls, after this long, with one silent call at least."""
    most_calls: int = 10_000
    """Calls in one sample at most: the harness holds on to all that they return."""
    memory_calls: int = 50
    """Calls of the memory series, after the samples; 0 takes none, fewer than 8 give no bound."""


@dataclass(frozen=True)
class Timed:
    """A callable under the clock: what it returns and leaves behind is waited for."""

    call: Callable[[], Any]
    held: Callable[[], Any]
    sync: Callable[[Any], None]
    clock: Clock = field(default_factory=Clock)

    def seconds(self, n: int = 1) -> float:
        """Seconds that `n` calls take."""
        return time_calls(self.call, n, self.sync, self.held, self.clock)


@dataclass
class Warmup:
    """What happened before the steady state."""

    first_call_s: float
    rest_s: float = 0.0
    calls: int = 1
    silent: int = 0
    """Calls in a row, up to the last, that compiled nothing."""


def warm_up(timed: Timed, compile_count: Callable[[], int], effort: Effort) -> Warmup:
    """Call until the compile counter has been silent for `effort.silent_calls` calls."""
    count = compile_count()
    out = Warmup(timed.seconds())
    count, out.silent = _silence(count, compile_count(), 0)
    limit = 20 * effort.silent_calls
    while out.silent < effort.silent_calls and out.calls < limit:
        if out.rest_s >= effort.warmup_s and out.silent >= 1:
            break
        if out.rest_s >= 10 * effort.warmup_s and out.calls > effort.silent_calls:
            break
        out.rest_s += timed.seconds()
        out.calls += 1
        count, out.silent = _silence(count, compile_count(), out.silent)
    return out


def _silence(before: int, after: int, silent: int) -> tuple[int, int]:
    return after, silent + 1 if after == before else 0


def calibrate(timed: Timed, effort: Effort) -> int:
    """Calls that make one sample last `effort.sample_s`."""
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
    """Fill `samples` with the seconds of each sample of `n` calls, until `turns` has enough.

    `disturbed` is asked after each, off the clock; True ends the sampling. What an exception
    interrupts leaves the samples before it.
    """
    total = 0.0
    while turns.next(
        enough=len(samples) >= effort.samples and total >= effort.steady_s,
        spent=len(samples) >= 3 and total >= effort.longest_s,
    ):
        if turns.shared and (not samples or samples[-1] < COLD_S * n):
            timed.seconds()
        samples.append(timed.seconds(n))
        total += samples[-1]
        if disturbed():
            break


def still_running(clock: Clock) -> float:
    """CPUs that this process keeps busy although it should be idle; 0 if it is.

    Work that the clock has missed goes on here, whatever `sync` was told to wait for.
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
    """Flags that the samples themselves call for, each with its measured value.

    Where visits take turns (`shared`), noise is what a cell does not have in common with others,
    which is only known when all are over: stats/neighbours.py.
    """
    out = {} if shared else noise(samples)
    if len(samples) < effort.samples:
        out["too_short"] = float(len(samples))
    elif (middle := statistics.median(samples)) < 0.5 * effort.sample_s:
        out["too_short"] = middle
    return out
