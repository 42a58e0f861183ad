"""Memory that a process holds, one call after the other: a rising line is a leak.

What is read, the best that there is: a GPU allocator's own count; else, on a CPU with glibc, all
memory in use from malloc and from Python's small-block allocator, which sees arrays of every
library, compiled programs and C++ objects; else JAX's live arrays; else resident memory.
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
from pathlib import Path
from typing import Any

import numpy as np

GROWING, COMPILING = 4096, 16384
"""Bytes per call from which on growth is flagged; the second for calls whose work is compiling,
after which JAX keeps 5 to 7 KB in every mode. See docs/decisions/0014."""

SURE = 3.29
"""Standard errors below the slope where its lower bound lies: wrong once in 2000 quiet series."""

LATE_BYTES, LATE_S, LATE_READS = 65536, 0.02, 3
"""A reading that has risen by more is taken again: compilers' threads give back late."""


class _Mallinfo2(ctypes.Structure):
    """What glibc (2.33 and later) tells of malloc: mallinfo(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    ]  # fmt: skip


def heap_bytes() -> int | None:
    """Bytes in use from malloc (all arenas, mapped blocks) and from Python; None without glibc."""
    if not hasattr(os, "memfd_create"):
        return None
    try:
        function = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return None
    function.restype = _Mallinfo2
    info = function()
    used = info.uordblks + info.hblkhd
    return used + _python_bytes() if used else None  # 0: another malloc stands in its place


def _python_bytes() -> int:
    """Bytes in blocks of Python's own allocator, which takes its memory from the system."""
    text, kept = os.memfd_create("blocks"), os.dup(2)
    sys.stderr.flush()
    try:
        os.dup2(text, 2)  # CPython only prints them
        sys._debugmallocstats()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    with os.fdopen(text, "rb") as file:
        file.seek(0)
        found = re.search(rb"bytes in allocated blocks\s*=\s*([\d,]+)", file.read())
    return int(found[1].replace(b",", b"")) if found else 0


def _resident_bytes() -> int:
    try:
        pages = Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak_bytes()


def peak_bytes() -> int:
    """The most resident memory that this process has had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Meter:
    """Reads from one source, chosen once; `library` is what the library says about its memory."""

    def __init__(self, library: Callable[[], Mapping[str, int]], pause: Callable[[float], None]):
        self._library, self._pause = library, pause
        known = library()
        if "peak_bytes" in known:  # an allocator of its own, on a GPU
            self.source = "library"
        elif heap_bytes() is not None:
            self.source = "heap"
        else:
            self.source = "library" if "live_bytes" in known else "rss"

    def read(self) -> int:
        """Bytes now."""
        if self.source == "heap":
            return heap_bytes() or 0
        return self._library()["live_bytes"] if self.source == "library" else _resident_bytes()

    def settled(self, before: int) -> int:
        """Bytes now; read again, if there are many more than `before`."""
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
        """Bytes after each of `calls` calls of `unit`, all garbage collected.

        `unit` returns the seconds that it took; after `longest_s` of them there are no more. What
        is there beforehand is set aside, since collecting what is new takes a thousandth of the
        time. Garbage among it stays, and stays the same.
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
    """Bytes per call: Theil and Sen's slope and, from 8 readings on, its lower bound.

    The median of all slopes between two readings, and a low quantile of them, which Kendall's
    statistic gives: P. K. Sen, JASA 63 (1968). Growth that ends in a plateau within the first 40 %
    of the series, and a step, have a lower bound of 0.
    """
    n = len(series)
    if n < 2:
        return {}
    first, second = np.triu_indices(n, 1)
    values = np.asarray(series, float)
    slopes = np.sort((values[second] - values[first]) / (second - first))
    out = {"slope_bytes_per_call": float(np.median(slopes))}
    error = SURE * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    rank = int((len(slopes) - error) // 2)
    if rank >= 0:
        out["growth_low_bytes_per_call"] = float(slopes[rank])
    return out


def summary(meter: Meter, series: list[int]) -> dict[str, Any]:
    """The series and what it says, as it stands in a record."""
    return {"source": meter.source, "series_bytes": series, **growth(series)}


def grows(about: Mapping[str, Any], compiles: bool = False) -> float:
    """The slope, if even its lower bound is that of a leak; else 0."""
    low = about.get("growth_low_bytes_per_call", 0.0)
    return about["slope_bytes_per_call"] if low > (COMPILING if compiles else GROWING) else 0.0
