"""Measure the memory that a process holds after each call: a rising series is a leak.

The best source available is read: a GPU allocator's own count; on a CPU with glibc, all memory in
use from malloc and from Python's small-block allocator, which includes arrays of every library,
compiled programs and C++ objects; JAX's live arrays; or resident memory.
"""

from __future__ import annotations

import ctypes
import gc
import math
import os
import re
import resource
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import psutil

GROWING, COMPILING = 4096, 16384
"""Bytes per call above which growth is flagged. The second is for calls that compile, after which
JAX keeps 5 to 7 KB in every mode. See docs/decisions/0014."""

BOUND_ERRORS = 3.29
"""Standard errors from the slope to its lower bound: exceeded by one in 2000 quiet series."""

LATE_BYTES, LATE_S, LATE_READS = 65536, 0.02, 3
"""A reading that rose by more than LATE_BYTES is repeated up to LATE_READS times, LATE_S apart:
compilers' threads release memory late."""


class _Mallinfo2(ctypes.Structure):
    """Result of mallinfo2(3) of glibc 2.33 and later."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    ]  # fmt: skip


def heap_bytes() -> int | None:
    """Return bytes in use from malloc and from Python's allocator; None without glibc."""
    if not hasattr(os, "memfd_create"):
        return None
    try:
        function = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return None
    function.restype = _Mallinfo2
    info = function()
    used = info.uordblks + info.hblkhd
    return used + _python_bytes() if used else None  # 0: another malloc replaces glibc's


def _python_bytes() -> int:
    """Return bytes in blocks of Python's small-block allocator, which does not use malloc."""
    output, stderr = os.memfd_create("blocks"), os.dup(2)
    sys.stderr.flush()
    try:
        os.dup2(output, 2)  # CPython only prints its counts
        sys._debugmallocstats()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
    with os.fdopen(output, "rb") as file:
        file.seek(0)
        match = re.search(rb"bytes in allocated blocks\s*=\s*([\d,]+)", file.read())
    return int(match[1].replace(b",", b"")) if match else 0


def _resident_bytes() -> int:
    return psutil.Process().memory_info().rss


def peak_bytes() -> int:
    """Return the peak resident memory of this process in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Meter:
    """Reads one source of memory use, chosen once. `library` returns the framework's own counts."""

    def __init__(self, library: Callable[[], Mapping[str, int]], pause: Callable[[float], None]):
        self._library, self._pause = library, pause
        counts = library()
        if "peak_bytes" in counts:  # an allocator of its own, on a GPU
            self.source = "library"
        elif heap_bytes() is not None:
            self.source = "heap"
        else:
            self.source = "library" if "live_bytes" in counts else "rss"

    def read(self) -> int:
        """Return bytes in use."""
        if self.source == "heap":
            return heap_bytes() or 0
        return self._library()["live_bytes"] if self.source == "library" else _resident_bytes()

    def settled(self, before: int) -> int:
        """Return bytes in use; read again if there are many more than `before`."""
        least = self.read()
        for _ in range(LATE_READS - 1):
            if least <= before + LATE_BYTES:
                break
            self._pause(LATE_S)
            least = min(least, self.read())
        return least

    def series(
        self, unit: Callable[[], float], calls: int, longest_s: float = math.inf
    ) -> list[int]:
        """Return bytes in use after each of `calls` calls of `unit`, garbage collected.

        `unit` returns the seconds that it took; the series ends after `longest_s` of them. Objects
        that exist beforehand are frozen: collecting only new ones takes a thousandth of the time,
        and garbage among the old ones does not change.
        """
        gc.freeze()
        try:
            readings: list[int] = []
            total = 0.0
            while len(readings) < calls and total < longest_s:
                total += unit()
                gc.collect()
                readings.append(self.settled(readings[-1] if readings else sys.maxsize))
            return readings
        finally:
            gc.unfreeze()


def growth(series: list[int]) -> dict[str, float]:
    """Return growth in bytes per call: Theil-Sen slope and, from 8 readings on, its lower bound.

    The slope is the median of all slopes between two readings; the bound is a low quantile of
    them, by Kendall's statistic (P. K. Sen, JASA 63, 1968). Growth that ends within the first 40 %
    of the series, and a single step, have a lower bound of 0.
    """
    n = len(series)
    if n < 2:
        return {}
    first, second = np.triu_indices(n, 1)
    values = np.asarray(series, float)
    slopes = np.sort((values[second] - values[first]) / (second - first))
    result = {"slope_bytes_per_call": float(np.median(slopes))}
    error = BOUND_ERRORS * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    rank = int((len(slopes) - error) // 2)
    if rank >= 0:
        result["growth_low_bytes_per_call"] = float(slopes[rank])
    return result


def summary(meter: Meter, series: list[int]) -> dict[str, Any]:
    """Return the series and its growth as they are stored in a record."""
    return {"source": meter.source, "series_bytes": series, **growth(series)}


def leak_slope(memory: Mapping[str, Any], compiles: bool = False) -> float:
    """Return the slope in bytes per call if its lower bound exceeds the threshold, else 0."""
    threshold = COMPILING if compiles else GROWING
    if memory.get("growth_low_bytes_per_call", 0.0) > threshold:
        return memory["slope_bytes_per_call"]
    return 0.0
