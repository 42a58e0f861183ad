"""Detect that a worker ran out of memory: from its output, or from the kernel's counters."""

from __future__ import annotations

import re
from pathlib import Path

from tiebreak.core.procfs import ROOT, cgroup, value

MESSAGE = re.compile(
    r"MemoryError|bad_alloc|RESOURCE_EXHAUSTED|ResourceExhausted|OutOfMemory|out of memory"
    r"|[Cc]an(?:not|'t) allocate memory"
)
"""Messages of Python, C++, XLA, TensorFlow, torch, CUDA and the C library."""

FILES = ("memory.events", "memory.oom_control")
"""Files of a cgroup with its counter of killed processes (v2, v1)."""


def is_out_of_memory(text: str) -> bool:
    """Return True if an error message says that memory ran out."""
    return MESSAGE.search(text) is not None


def kills(root: Path = ROOT) -> int:
    """Return the number of processes that the kernel killed for lack of memory so far.

    The counters of the whole system and of our memory cgroup (v2, v1) are added, as a container may
    see only one. 0 where there are none.
    """
    files = [folder / name for folder in cgroup("memory", root) for name in FILES]
    return sum(value(file, "oom_kill") or 0 for file in (root / "proc/vmstat", *files))
