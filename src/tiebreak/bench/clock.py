"""Clocks and timers. No other module of bench reads a clock, so that tests can replace it."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tiebreak.core import procfs

KEPT = 32
"""Outputs of the latest calls that `time_calls` keeps alive. JAX has at most so many computations
in progress on a CPU. More would be timed, too: Python's garbage collector looks through them again
and again, and memory that is kept cannot be reused. See docs/decisions/0038."""


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


def process_age_s() -> float:
    """Return seconds since this process was started, to a hundredth.

    Where the kernel does not say when that was: 0.
    """
    fields = procfs.read(procfs.ROOT / "proc/self/stat").rpartition(")")[2].split()
    if not fields:
        return 0.0
    started_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_s


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
    """Return seconds of `n` calls, from idle until all of their work is done.

    `sync` waits for a tree of arrays, `state()` returns what calls leave behind. The last KEPT
    outputs are waited for, and the state, which depends on all calls of a probe that learns.
    Earlier outputs are dropped as a training loop would drop them; to wait for them would drain
    the pipeline. The harness synchronises, never the code under test: JAX returns before it has
    computed.
    """
    sync(state())
    outputs: deque[Any] = deque(maxlen=KEPT)
    start = clock.now_ns()
    for _ in range(n):
        outputs.append(call())
    sync((list(outputs), state()))
    return (clock.now_ns() - start) / 1e9
