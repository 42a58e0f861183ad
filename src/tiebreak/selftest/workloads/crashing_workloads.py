"""Workload of the checks `faults`, `kills` and `damage`: fails on demand, without a framework.

Workers import it. A cell's label selects the fault, which occurs during the measurement; any other
label is measured normally. Its visits take some hundredths of a second.
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

MARK = "mark-"
"""Prefix of the folder that marks processes; see process_tracking.py."""
NOTES = "notes.txt"
"""Name of the file of notes in it."""

FAULTLESS_CALLS = 4
"""Calls before the fault."""


def make_subject(job: Job) -> Subject:
    """Return the workload of a visit."""
    return Subject(job)


class Subject:
    """Counts its calls; one call takes half a millisecond."""

    def __init__(self, job: Job):
        self.cell, self.threads, self.calls = job.cells[0], job.threads, 0
        self.fault = FAULTS.get(self.cell.label)
        self.loss, self.parent = 1.0, os.getppid()
        _note(f"{job.seed} {self.cell.id}")

    def load(self) -> None:
        """Do nothing: there is nothing to import."""

    def build(self) -> None:
        """Do nothing: there is nothing to build."""

    def probe(self, name: str) -> Probe:
        """Return the only probe, whatever its name."""
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
        """Do one unit of work, or the fault.

        Hang if the manager was killed, as a worker would that nothing ends.
        """
        if os.getppid() != self.parent:
            _hang(self)
        if self.fault and self.calls == FAULTLESS_CALLS:
            self.fault(self)
        self.calls += 1
        timer = Timer()
        while timer.elapsed_s() < 0.0005:
            pass
        return self.loss

    def sync(self, tree: Any) -> None:
        """Do nothing: a call returns when it has finished."""

    def compile_count(self) -> int:
        """Return 0: nothing is compiled."""
        return 0

    def settings(self) -> dict[str, Any]:
        """Return the requested settings."""
        return {"threads": self.threads, "precision": self.cell.precision}

    def memory(self) -> dict[str, int]:
        """Return no reading."""
        return {}

    def close(self) -> None:
        """Send a second, different result if the label says so; the first has been sent."""
        if self.cell.label == "sends twice":
            self.send('{"status": "failed", "error": "the second", "flags": {}}')

    def send(self, result: str, end: str = "}\n") -> None:
        """Write a result to the manager directly: the pipe's number is the second argument."""
        message = f'{{"cell_id": "{self.cell.id}", "result": {result}{end}'
        os.write(int(sys.argv[2]), message.encode())


def _exit(subject: Subject) -> None:
    print("last words", file=sys.stderr, flush=True)
    os._exit(1)


def _exhaust_memory(subject: Subject) -> None:
    """Allocate up to a limit that is harmless to the machine."""
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
    """Leave a child that ignores SIGTERM; the visit itself succeeds."""
    code = "import signal as s; s.signal(s.SIGTERM, s.SIG_IGN); print(1, flush=True); s.pause()"
    options = {"stdout": subprocess.PIPE, "start_new_session": own_session}
    child = subprocess.Popen([sys.executable, "-c", code], **options)
    assert child.stdout
    child.stdout.readline()  # it ignores SIGTERM from here on


def _flood(subject: Subject) -> None:
    for _ in range(2000):
        print("x" * 10_000)
    os._exit(1)


def _diverge(subject: Subject) -> None:
    subject.loss = float("nan")


def _send_nan(subject: Subject) -> None:
    """Send NaN, which is not JSON but is accepted by Python's reader."""
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
    """Append a line to the notes in the mark's folder, if this process is marked."""
    for entry in sys.path:
        if Path(entry).name.startswith(MARK):
            with open(Path(entry) / NOTES, "ab", buffering=0) as file:
                file.write(text.encode() + b"\n")
