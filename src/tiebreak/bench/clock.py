"""Clocks and timers. No other module of bench reads a clock, so that tests can replace it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any


class Clock:
    """Monotonic wall time, and CPU time of this process."""

    def now_ns(self) -> int:
        """Return nanoseconds since an arbitrary start."""
        return time.perf_counter_ns()

    def cpu_ns(self) -> int:
        """Return nanoseconds of CPU time of all threads of this process."""
        return time.process_time_ns()

    def pause(self, seconds: float) -> None:
        """Sleep."""
        nap(seconds)


def nap(seconds: float) -> None:
    """Sleep."""
    time.sleep(seconds)


def wall_ns() -> int:
    """Return nanoseconds of the system's wall clock, with which the kernel stamps messages."""
    return time.time_ns()


def utc_now() -> str:
    """Return the time as ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def stamp() -> str:
    """Return the time for a folder's name, e.g. 20250131-235959."""
    return datetime.now(UTC).strftime("%Y%m%d-%H%M%S")


class Timer:
    """Stopwatch, started by its construction."""

    def __init__(self, clock: Clock | None = None):
        self.clock = clock or Clock()
        self.start_ns = self.clock.now_ns()

    def elapsed_s(self) -> float:
        """Return seconds since the start or the last lap."""
        return (self.clock.now_ns() - self.start_ns) / 1e9

    def lap_s(self) -> float:
        """Return seconds since the start or the last lap, and start a new lap."""
        now = self.clock.now_ns()
        seconds = (now - self.start_ns) / 1e9
        self.start_ns = now
        return seconds


def time_calls(
    call: Callable[[], Any],
    n: int,
    sync: Callable[[Any], None],
    state: Callable[[], Any],
    clock: Clock,
) -> float:
    """Return seconds of `n` calls, from idle until all that they returned is computed.

    `sync` waits for a tree of arrays, `state()` returns what calls leave behind. Every output is
    waited for, not only the last: independent calls may finish in any order. The harness
    synchronises, never the code under test: JAX returns before it has computed.
    """
    sync(state())
    start = clock.now_ns()
    outputs = [call() for _ in range(n)]
    sync((outputs, state()))
    return (clock.now_ns() - start) / 1e9
