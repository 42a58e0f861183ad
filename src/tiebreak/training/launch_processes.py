"""Start jobs as processes beside this one."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping
from typing import Any

from tiebreak.core.process_env import affinity
from tiebreak.training.jobs import Command
from tiebreak.training.request import TrainingRequest


def runs_here(options: Mapping[str, Any]) -> bool:
    """Return True: jobs share the CPUs and the memory of this machine."""
    return True


def cpus(options: Mapping[str, Any], jobs: int) -> int:
    """Return the CPUs of each of so many jobs at once."""
    return max(1, len(affinity()) // jobs)


def make(request: TrainingRequest, options: Mapping[str, Any]) -> Processes:
    """Return the launcher of a resolved request."""
    return Processes(request.jobs or 1)


class Processes:
    """Starts each job as a child of this process."""

    def __init__(self, most: int):
        self.most = most

    def start(self, command: Command) -> ProcessJob:
        """Start a process, out of reach of the terminal's Ctrl-C, which is passed on to it."""
        return ProcessJob(command.start(process_group=0))

    def close(self) -> None:
        """Do nothing: there is nothing but the processes."""


class ProcessJob:
    """A child of this process."""

    error = ""

    def __init__(self, process: subprocess.Popen):
        self._process = process

    def poll(self) -> int | None:
        """Return its exit status; None while it runs."""
        return self._process.poll()

    def interrupt(self) -> None:
        """Send Ctrl-C's signal, if it runs."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Kill it, and wait for its end."""
        self._process.kill()
        self._process.wait()
