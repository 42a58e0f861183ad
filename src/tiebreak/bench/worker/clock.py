"""The clock. No other file reads one, so that tests can put a simulated one in its place."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any


class Clock:
    """Wall time from the system's best monotonic counter, and CPU time of this process."""

    def now_ns(self) -> int:
        """Nanoseconds since an arbitrary start."""
        return time.perf_counter_ns()

    def cpu_ns(self) -> int:
        """Nanoseconds of CPU that all threads of this process have used."""
        return time.process_time_ns()

    def pause(self, seconds: float) -> None:
        """Do nothing for so long."""
        nap(seconds)


def nap(seconds: float) -> None:
    """Do nothing for so long."""
    time.sleep(seconds)


def wall_ns() -> int:
    """Nanoseconds of the system's wall clock, by which the kernel stamps messages."""
    return time.time_ns()


def utc_now() -> str:
    """Now, ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def stamp() -> str:
    """Now as it goes into a folder's name, e.g. 20250131-235959."""
    return datetime.now(UTC).strftime("%Y%m%d-%H%M%S")


class Timer:
    """Seconds since its construction or the last `lap`."""

    def __init__(self, clock: Clock | None = None):
        self.clock = clock or Clock()
        self.start_ns = self.clock.now_ns()

    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return (self.clock.now_ns() - self.start_ns) / 1e9

    def lap_s(self) -> float:
        """Seconds since the start, which moves to now."""
        now = self.clock.now_ns()
        seconds, self.start_ns = (now - self.start_ns) / 1e9, now
        return seconds


def time_calls(
    call: Callable[[], Any],
    n: int,
    sync: Callable[[Any], None],
    held: Callable[[], Any],
    clock: Clock,
) -> float:
    """Seconds that `n` calls take, from idle until everything they returned is computed.

    `sync` waits for a tree of arrays, `held()` is the state that the calls leave behind. Every
    output is waited for, not only the last: independent calls may finish in any order. The
    harness does this and the code under test cannot: JAX returns before it has computed.
    """
    sync(held())
    start = clock.now_ns()
    outputs = [call() for _ in range(n)]
    sync((outputs, held()))
    return (clock.now_ns() - start) / 1e9
