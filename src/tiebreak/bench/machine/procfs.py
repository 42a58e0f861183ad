"""Reading what the kernel shows of itself below /proc and /sys. Another root is for tests."""

from __future__ import annotations

import contextlib
from pathlib import Path

ROOT = Path("/")


def read(path: Path) -> str:
    """A file's text; empty where there is none."""
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").strip()
    return ""


def cgroup(controller: str, root: Path = ROOT) -> list[Path]:
    """Folders of our cgroup: the unified one (v2) and this controller's (v1), of those there are.

    A container may name a cgroup that it does not see; what it sees is its own, at the top.
    """
    out = []
    for line in read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if controllers else "")
        own = top / path.lstrip("/")
        out.append(own if own.is_dir() else top)
    return out


def value(file: Path, name: str) -> int | None:
    """The number behind a name in a file of `name number` lines."""
    for line in read(file).splitlines():
        words = line.split()
        if words[:1] == [name]:
            return int(words[1])
    return None
