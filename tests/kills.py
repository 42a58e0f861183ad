"""Ending commands by signals that are drawn, and finding what they leave running; for tests."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
COUNT = int(os.environ.get("KILLS", 0))
"""Kills that were asked for, over all cases of a test; 0: one in each case that runs."""


def hear_signals() -> None:
    """Undo, in a child, what `nohup` and a shell's background jobs ignore: children inherit it."""
    for number in SIGNALS[1:]:
        signal.signal(number, signal.SIG_DFL)


def end(child: subprocess.Popen, rng: random.Random) -> signal.Signals:
    """End a command by a signal that is drawn, Ctrl-C twice; return the signal."""
    number = rng.choice(SIGNALS)
    child.send_signal(number)
    if number == signal.SIGINT:
        time.sleep(rng.uniform(0, 0.3))
        child.send_signal(number)
    return number


def assert_nothing_runs(text: str) -> None:
    """Fail if processes that have a text among their variables go on for half a minute."""
    deadline = time.monotonic() + 30
    while running := processes_with(text):
        assert time.monotonic() < deadline, running
        time.sleep(0.02)


def processes_with(text: str) -> list[str]:
    """Return the command lines of the processes that have a text among their variables."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " ")[:200])
        except OSError:  # it has ended, or is another user's
            continue
    return found
