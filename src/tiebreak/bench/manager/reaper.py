"""Ends a visit: the worker, its process group, and what has left that group for one of its own.

A process that calls setsid() escapes the signal to its group. On Linux it cannot escape its
ancestors: a manager that is their *subreaper* becomes the parent of every orphan below it, sees it,
and ends it. Elsewhere the group is all that is ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from tiebreak.bench.worker.clock import Timer, nap

PATIENCE_S = 10.0
"""For processes to be gone that were ended: one that waits for a disk goes when that answers."""
LINUX = sys.platform == "linux"
SET_SUBREAPER, GET_SUBREAPER = 36, 37
"""prctl(2)."""


class Child(NamedTuple):
    """One child of this process, as /proc/PID/stat has it."""

    pid: int
    state: str
    session: int


class Orphans:
    """Finds what a visit leaves behind. As a context it makes this process the subreaper."""

    def __enter__(self) -> Orphans:
        self.before = {child.pid for child in children()}
        self.was = _subreaper()
        _set_subreaper(1)
        return self

    def __exit__(self, *_: object) -> None:
        _set_subreaper(self.was)

    def end(self, spare: Collection[int] = ()) -> None:
        """End every process that became our child inside; generation after generation.

        `spare` are the workers that go on.
        """
        timer = Timer()
        while (found := self._found(spare)) and timer.elapsed_s() < PATIENCE_S:
            for child in found:
                with contextlib.suppress(ProcessLookupError, PermissionError, ChildProcessError):
                    os.kill(child.pid, signal.SIGKILL)
                    os.waitpid(child.pid, os.WNOHANG)  # or it stays, as a zombie
            nap(0.01)

    def _found(self, spare: Collection[int]) -> list[Child]:
        """A worker has a session of its own, and nothing below it can come back to ours: what is in
        ours was started by another thread of this process.
        """
        own, known = os.getsid(0), self.before | set(spare)
        return [c for c in children() if c.pid not in known and c.session != own]


def children() -> Iterator[Child]:
    """Those of this process; none where there is no /proc."""
    for entry in Path("/proc").glob("[0-9]*/stat") if LINUX else ():
        with contextlib.suppress(OSError):  # gone meanwhile
            # PID (NAME) STATE PARENT GROUP SESSION …; a name may hold spaces and brackets
            fields = entry.read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                yield Child(int(entry.parent.name), fields[0], int(fields[3]))


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it is over, without collecting it: its number stays taken until its group ends."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def end_group(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """End a process and every other one of its group; ask first, if it is still running.

    `grace_s` lies between asking it and ending it.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if not has_ended(process):
            os.killpg(process.pid, signal.SIGTERM)
            timer = Timer()
            while not has_ended(process) and timer.elapsed_s() < grace_s:
                nap(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _subreaper() -> int:
    if not LINUX:
        return 0
    out = ctypes.c_int()
    ctypes.CDLL(None).prctl(GET_SUBREAPER, ctypes.byref(out))
    return out.value


def _set_subreaper(value: int) -> None:
    if LINUX:
        ctypes.CDLL(None).prctl(SET_SUBREAPER, value)
