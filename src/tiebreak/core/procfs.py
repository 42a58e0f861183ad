"""Read files below /proc and /sys. Tests pass another root."""

from __future__ import annotations

import contextlib
from pathlib import Path

ROOT = Path("/")


def read(path: Path) -> str:
    """Return a file's stripped text; empty if it cannot be read."""
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").strip()
    return ""


def cgroup(controller: str, root: Path = ROOT) -> list[Path]:
    """Return the existing folders of this process's cgroup: unified (v2) and a controller's (v1).

    A container may be in a cgroup whose folder it cannot see; its own is then mounted at the top.
    """
    folders = []
    for line in read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if controllers else "")
        folder = top / path.lstrip("/")
        folders.append(folder if folder.is_dir() else top)
    return folders


def value(file: Path, name: str) -> int | None:
    """Return the number of `name` in a file of `name number` lines; None if it is not there."""
    for line in read(file).splitlines():
        fields = line.split()
        if fields[:1] == [name]:
            return int(fields[1])
    return None


MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Limit, usage, and the part of the usage that the kernel gives back (cgroups v2 and v1)."""


def available_bytes(root: Path = ROOT) -> float:
    """Return the memory that this process can still take without swapping, in bytes.

    The machine's, or what is left of a container's limit if that is less.
    """
    kib = value(root / "proc/meminfo", "MemAvailable:")
    free = _available_without_proc() if kib is None else 1024.0 * kib
    for folder in cgroup("memory", root):
        for limit, usage, reclaimable in MEMORY_FILES:
            most, used = read(folder / limit), read(folder / usage)
            if most.isdecimal() and used.isdecimal():
                given_back = value(folder / "memory.stat", reclaimable) or 0
                free = min(free, max(0.0, float(int(most) - int(used) + given_back)))
    return free


def _available_without_proc() -> float:
    import psutil  # only where there is no /proc: `tiebreak list` need not wait for it

    return float(psutil.virtual_memory().available)
