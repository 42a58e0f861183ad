"""How a probe is measured: first call, calls until nothing compiles, calibration, samples, flags.

All times come from the clock that is passed in.
"""

from __future__ import annotations

import gc
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tiebreak.bench.clock import Clock, time_calls

NOISY, UNSTEADY = 0.10, 0.10
"""Flag when the samples' spread (1.4826 MAD / median), or the step from the median of their first
half to that of their second, is larger. Starting values; see docs/decisions."""


@dataclass(frozen=True)
class Effort:
    """How much a visit measures; a scale of a suite sets it. All times in seconds."""

    sample_s: float = 0.1
    """A sample lasts at least this long: calls are repeated until it does."""
    samples: int = 20
    """At least this many samples,"""
    steady_s: float = 2.0
    """lasting at least this long together."""
    longest_s: float = 120.0
    """Sampling ends after this long even with fewer samples; too_short is flagged then."""
    silent_calls: int = 5
    """Warm-up ends when this many calls in a row compiled nothing,"""
    warmup_s: float = 60.0
    """or, for slow calls, after this long, with one silent call at least."""
    most_calls: int = 10_000
    """Calls in one sample at most: the harness holds on to all that they return."""


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
        if out.rest_s >= 10 * effort.warmup_s:
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


def sample(timed: Timed, n: int, effort: Effort) -> list[float]:
    """Seconds of each sample of `n` calls, until there are enough."""
    gc.collect()
    samples: list[float] = []
    total = 0.0
    while len(samples) < effort.samples or total < effort.steady_s:
        if total >= effort.longest_s and len(samples) >= 3:
            break
        samples.append(timed.seconds(n))
        total += samples[-1]
    return samples


def flags(samples: list[float], effort: Effort) -> dict[str, float]:
    """Flags that the samples themselves call for, each with its measured value."""
    out: dict[str, float] = {}
    middle = statistics.median(samples)
    if (spread := _spread(samples)) > NOISY:
        out["noisy"] = round(spread, 4)
    half = len(samples) // 2
    if half >= 3:
        step = statistics.median(samples[half:]) / statistics.median(samples[:half]) - 1
        chance = 2 * 1.77 * spread / math.sqrt(half)  # two standard errors of that difference
        if abs(step) > max(UNSTEADY, chance):
            out["unsteady"] = round(step, 4)
    if len(samples) < effort.samples:
        out["too_short"] = float(len(samples))
    elif middle < 0.5 * effort.sample_s:
        out["too_short"] = middle
    return out


def _spread(samples: list[float]) -> float:
    middle = statistics.median(samples)
    return 1.4826 * statistics.median(abs(s - middle) for s in samples) / middle
