"""End a worker, its process group, and its descendants that have left the group.

A process that calls setsid() escapes the signal to its group. On Linux the manager therefore is a
*subreaper*: it becomes the parent of every orphan below it, finds it, and ends it. On other systems
only the group is ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator
from typing import NamedTuple

import psutil

from tiebreak.bench.clock import Timer, nap

PATIENCE_S = 10.0
"""Time for killed processes to disappear; one that waits for a disk ends when that answers."""
LINUX = sys.platform == "linux"
SET_SUBREAPER, GET_SUBREAPER = 36, 37
"""Options of prctl(2)."""


class Child(NamedTuple):
    """A child of this process."""

    pid: int
    state: str
    """As psutil names it: `running`, `sleeping`, `zombie`, …"""
    session: int


class Orphans:
    """Context in which this process is a subreaper, to find and end orphans of workers."""

    def __enter__(self) -> Orphans:
        self.children_before = {child.pid for child in children()}
        self.subreaper_before = _subreaper()
        _set_subreaper(1)
        return self

    def __exit__(self, *_: object) -> None:
        _set_subreaper(self.subreaper_before)

    def end(self, spare: Collection[int] = ()) -> None:
        """Kill every process that became a child inside this context, generation by generation.

        `spare` are the pids of workers that go on.
        """
        timer = Timer()
        while (orphans := self._find(spare)) and timer.elapsed_s() < PATIENCE_S:
            for child in orphans:
                with contextlib.suppress(ProcessLookupError, PermissionError, ChildProcessError):
                    os.kill(child.pid, signal.SIGKILL)
                    os.waitpid(child.pid, os.WNOHANG)  # or it stays a zombie
            nap(0.01)

    def _find(self, spare: Collection[int]) -> list[Child]:
        """Return the new children that belong to workers.

        Workers have sessions of their own, and their descendants cannot join ours: a new child in
        our session was started by another thread of this process.
        """
        session = os.getsid(0)
        known = self.children_before | set(spare)
        return [
            child for child in children() if child.pid not in known and child.session != session
        ]


def children() -> Iterator[Child]:
    """Yield the children of this process."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error, ProcessLookupError):  # gone meanwhile
            yield Child(child.pid, child.status(), os.getsid(child.pid))


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Return True if a process has ended. Its pid is not released yet, as its group has it."""
    if hasattr(os, "waitid"):  # macOS has it since Python 3.13
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    try:
        return psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def end_group(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """End a process group: SIGTERM if the process still runs, SIGKILL `grace_s` later."""
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
