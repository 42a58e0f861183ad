"""Whether a worker ended for want of memory: by what it said, or by what the kernel counted."""

from __future__ import annotations

import re
from pathlib import Path

from tiebreak.bench.machine.procfs import ROOT, cgroup, value

SAID = re.compile(
    r"MemoryError|bad_alloc|RESOURCE_EXHAUSTED|ResourceExhausted|OutOfMemory|out of memory"
    r"|[Cc]an(?:not|'t) allocate memory"
)
"""How Python, C++, XLA, TensorFlow, torch, CUDA and the C library put it."""
FILES = ("memory.events", "memory.oom_control")
"""Where a cgroup counts them (v2, v1)."""


def said(text: str) -> bool:
    """Whether an error says that memory was lacking."""
    return SAID.search(text) is not None


def kills(root: Path = ROOT) -> int:
    """Processes that the kernel has ended so far for want of memory; 0 where it does not tell.

    Counted for the whole system and for our memory cgroup (v2, v1): a container may see only one.
    """
    groups = [folder / name for folder in cgroup("memory", root) for name in FILES]
    return sum(value(file, "oom_kill") or 0 for file in (root / "proc/vmstat", *groups))
