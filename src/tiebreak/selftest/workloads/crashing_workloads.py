"""What the rows of faults, kills and damage measure: a subject without a framework that misbehaves.

Workers import it. A cell's label says what it does, in the middle of being measured; any label
that is no fault's is measured in peace. Its visits take a few hundredths of a second.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tiebreak.bench.clock import Timer
from tiebreak.bench.probes.base import Probe
from tiebreak.bench.suite.plan import Job

MARK, NOTES = "mark-", "notes.txt"
"""How the folder is called that marks processes (see children.py), and the notes in it."""

PATIENCE = 4
"""Calls that go well."""


def make_subject(job: Job) -> Subject:
    """The subject of a visit."""
    return Subject(job)


class Subject:
    """Counts its calls, and is always right about them."""

    def __init__(self, job: Job):
        self.cell, self.threads, self.calls = job.cells[0], job.threads, 0
        self.fault = FAULTS.get(self.cell.label)
        self.loss, self.parent = 1.0, os.getppid()
        _note(f"{job.seed} {self.cell.id}")

    def load(self) -> None:
        """Nothing to import."""

    def build(self) -> None:
        """Nothing to build."""

    def probe(self, name: str) -> Probe:
        """Half a millisecond a call."""
        return Probe(
            "calls",
            1,
            self.call,
            expected={"updates": 1},
            counted=lambda: {"updates": self.calls},
            weights=lambda: {"calls": np.array(self.calls)},
            learns=True,
            numbers=lambda loss: {"loss": loss},
        )

    def call(self) -> float:
        """One unit of work, or the fault; a worker whose manager was killed would stay for ever."""
        if os.getppid() != self.parent:
            _hang(self)
        if self.fault and self.calls == PATIENCE:
            self.fault(self)
        self.calls += 1
        timer = Timer()
        while timer.elapsed_s() < 0.0005:
            pass
        return self.loss

    def sync(self, tree: Any) -> None:
        """Everything is there when a call returns."""

    def compile_count(self) -> int:
        """Nothing compiles."""
        return 0

    def settings(self) -> dict[str, Any]:
        """As asked for."""
        return {"threads": self.threads, "precision": self.cell.precision}

    def memory(self) -> dict[str, int]:
        """Nothing to add."""
        return {}

    def close(self) -> None:
        """The results are sent; what is sent `twice` says something else the second time."""
        if self.cell.label == "sends twice":
            self.send('{"status": "failed", "error": "the second", "flags": {}}')

    def send(self, result: str, end: str = "}\n") -> None:
        """A result of one's own, past the worker: its pipe is the second argument."""
        message = f'{{"cell_id": "{self.cell.id}", "result": {result}{end}'
        os.write(int(sys.argv[2]), message.encode())


def _exit(subject: Subject) -> None:
    print("last words", file=sys.stderr, flush=True)
    os._exit(1)


def _exhaust_memory(subject: Subject) -> None:
    """Take all that there is, below a limit that spares the machine."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + (256 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    taken = []
    while True:
        taken.append(np.ones(1 << 21))


def _hang(subject: Subject) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        signal.pause()


def _leave_child(subject: Subject, own_session: bool = False) -> None:
    """Leave behind what no SIGTERM ends; the visit itself is in order."""
    code = "import signal as s; s.signal(s.SIGTERM, s.SIG_IGN); print(1, flush=True); s.pause()"
    options = {"stdout": subprocess.PIPE, "start_new_session": own_session}
    child = subprocess.Popen([sys.executable, "-c", code], **options)
    assert child.stdout
    child.stdout.readline()  # it is deaf from here on


def _flood(subject: Subject) -> None:
    for _ in range(2000):
        print("x" * 10_000)
    os._exit(1)


def _diverge(subject: Subject) -> None:
    subject.loss = float("nan")


def _send_nan(subject: Subject) -> None:
    """JSON has no NaN, but Python's reader takes it."""
    subject.send('{"status": "ok", "flags": {}, "samples_s": [NaN], "value_s": NaN}')
    os._exit(0)


def _send_half(subject: Subject) -> None:
    subject.send('{"status": "ok", "fla', end="")
    os._exit(0)


FAULTS: dict[str, Callable[[Subject], object]] = {
    "exits": _exit,
    "segfaults": lambda subject: ctypes.string_at(0),
    "is out of memory": _exhaust_memory,
    "hangs": _hang,
    "leaves a child": _leave_child,
    "leaves a daemon": lambda subject: _leave_child(subject, own_session=True),
    "floods": _flood,
    "sends half": _send_half,
    "sends nan": _send_nan,
    "diverges": _diverge,
}


def _note(text: str) -> None:
    """One line into the mark's folder, if this process carries one."""
    for entry in sys.path:
        if Path(entry).name.startswith(MARK):
            with open(Path(entry) / NOTES, "ab", buffering=0) as file:
                file.write(text.encode() + b"\n")
