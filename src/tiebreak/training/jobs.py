"""Jobs: one agent's training as a command, and the function that runs it on another machine.

Plain data with few imports: SLURM's and Ray's nodes unpickle it. They need the same installation at
the same path, and the run's folder under the same name.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tiebreak.core.errors import UsageError
from tiebreak.core.files import hold
from tiebreak.core.process_env import PARENT, SAFE
from tiebreak.training.run_logs import CONFIG

PROGRAM = (sys.executable, *SAFE, "-m", "tiebreak")
KILLED = -signal.SIGKILL
"""Exit status of a job of which nothing is known but that it is gone."""
POLL_S = 0.05
"""Seconds between looks at whether a process has ended."""
FREE_S = 60.0
"""Seconds to wait for the folder of an agent whose node was lost: its process may still end."""
STORE_S = 60.0
"""Seconds for a training to store policy and checkpoint before its job ends."""


class Command(NamedTuple):
    """The command that trains one agent into its folder, or goes on with it."""

    words: tuple[str, ...]
    """Program and arguments, without `--out` and `--resume`."""
    folder: str
    log: str
    """File to which its output is appended."""
    cwd: str
    """Folder to start in: modules of users' environments and networks are found there."""

    @property
    def name(self) -> str:
        """Name of the agent's folder."""
        return Path(self.folder).name

    def start(self, **options: Any) -> subprocess.Popen:
        """Start it as a child, whose end is this process's too; `options` are those of Popen."""
        command = [*self.words, "--out", self.folder]
        if (Path(self.folder) / CONFIG).is_file():
            command.append("--resume")
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.cwd,
                env={**os.environ, PARENT: str(os.getpid())},
                **options,
            )


class RemoteJob:
    """A function without arguments that runs one agent's training, and returns its exit status."""

    def __init__(self, command: Command, manager: int | None = None):
        """Prepare a job.

        Args:
            manager: Process on the same machine whose end is the training's, too; None: of none.
        """
        self.command, self.manager = command, manager
        self._child: subprocess.Popen | None = None
        self._is_stopped = False

    def __call__(self) -> int:
        """Train to the end, until a signal, or until the manager or this parent has ended."""
        parent = os.getppid()
        with _on_sigterm(self._stop):
            self._wait_until_free()
            if self._is_stopped:
                return 128 + signal.SIGTERM
            self._child = self.command.start()
            if self._is_stopped:  # in between
                self._interrupt()
            try:
                while not self._has_ended() and os.getppid() == parent and _is_alive(self.manager):
                    time.sleep(POLL_S)
                self._end()
            except KeyboardInterrupt:  # `ray.cancel`
                self._end()
            return self._child.wait()

    def _end(self) -> None:
        """Let the training end with a checkpoint; a second KeyboardInterrupt does not wait."""
        try:
            self._interrupt()
            self._wait_until_stored()
        except KeyboardInterrupt:
            assert self._child is not None
            self._child.kill()

    def checkpoint(self) -> Any:
        """End the training with a checkpoint; return what submitit is to queue again."""
        from submitit.helpers import DelayedSubmission

        self._end()
        return DelayedSubmission(RemoteJob(self.command, self.manager))

    def _has_ended(self) -> bool:
        """Return whether the training has ended.

        It is not reaped, so that a signal's handler may ask while `__call__` does.
        """
        if self._child is None or self._child.returncode is not None:
            return True
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._child.pid, options) is not None

    def _stop(self) -> None:
        """Handle SIGTERM, before there is a training and while it runs."""
        self._is_stopped = True
        self._interrupt()

    def _wait_until_free(self) -> None:
        """Wait until no other process trains into the folder, but for no longer than FREE_S."""
        folder = Path(self.command.folder)
        deadline = time.monotonic() + FREE_S
        while folder.is_dir() and not self._is_stopped and time.monotonic() < deadline:
            try:
                with hold(folder, "training"):
                    return
            except UsageError:
                time.sleep(POLL_S)

    def _interrupt(self) -> None:
        """Send SIGTERM, which the training handles as Ctrl-C; Ray blocks SIGINT in all children."""
        if not self._has_ended():
            assert self._child is not None
            self._child.send_signal(signal.SIGTERM)

    def _wait_until_stored(self) -> None:
        """Wait until an interrupted training has ended; kill it after STORE_S."""
        deadline = time.monotonic() + STORE_S
        while not self._has_ended() and time.monotonic() < deadline:
            time.sleep(POLL_S)
        if not self._has_ended():
            assert self._child is not None
            self._child.kill()


def _is_alive(pid: int | None) -> bool:
    """Return whether a process runs; True for None."""
    try:
        return pid is None or psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def _on_sigterm(function: Any) -> Iterator[None]:
    """Call a function at SIGTERM, in the main thread; elsewhere leave signals as they are."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: function())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
