"""Run a manager on a host, follow what it says, and end it with this process."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tiebreak.core.errors import UsageError
from tiebreak.core.text import one_line

Say = Callable[[str], None]

WATCHED = """\
exec 3<&0
{command} </dev/null 3<&- &
manager=$!
(while read -r line; do :; done; kill -TERM $manager) <&3 >/dev/null 2>&1 &
watcher=$!
wait $manager
status=$?
kill $watcher 2>/dev/null
exit $status
"""
"""A command that is ended by SIGTERM when its standard input ends: when whoever has started it asks
for that, is killed, or cannot be reached any more."""


def watched(before: str, command: str) -> str:
    """Return a shell script: `before`, then a command that ends with its standard input."""
    return before + WATCHED.format(command=command)


class Ending(NamedTuple):
    """How a manager ended."""

    status: int
    """Exit status; 128 + n for signal n."""
    last: str = ""
    """The last line that it printed."""

    def why(self) -> str:
        """Return in words why it did not come to its end."""
        if self.status > 128:
            return f"its manager was ended by signal {self.status - 128}"
        return f"its manager ended with status {self.status}: {self.last or 'it said nothing'}"


class Session(Protocol):
    """A manager that runs on a host."""

    def wait(self) -> Ending:
        """Wait for its end, and pass on the lines that it prints until then."""
        ...

    def stop(self) -> None:
        """Ask it to end, as Ctrl-C would; from any thread, any number of times."""
        ...


class ShellSession:
    """A watched script in a process of this machine, which may be ssh's."""

    def __init__(self, argv: Sequence[str], say: Say):
        self.say = say
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then stops it
        )

    def wait(self) -> Ending:
        assert self.process.stderr is not None
        last = ""
        for raw in self.process.stderr:
            if line := one_line(raw.decode(errors="replace")):
                self.say(line)
                last = line
        status = self.process.wait()
        self.stop()
        return Ending(status if status >= 0 else 128 - status, last)

    def stop(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()


class Job:
    """A watched script as submitit runs it; after a preemption it begins again, and resumes."""

    def __init__(self, script: str):
        self.script = script

    def __call__(self) -> tuple[int, str]:
        """Run it to its end; return its status and last line."""

        def say(line: str) -> None:
            print(line, file=sys.stderr, flush=True)

        ending = ShellSession(["sh", "-c", self.script], say).wait()
        return ending.status, ending.last

    def checkpoint(self) -> Any:
        """Return the job that follows one which is preempted or has reached its time limit."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class SubmititSession:
    """A watched script as a job of submitit's."""

    def __init__(
        self, cluster: str, script: str, folder: Path, parameters: Mapping[str, Any], say: Say
    ):
        import submitit

        try:
            executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
            executor.update_parameters(**parameters)
            self.job = executor.submit(Job(script))
        except (RuntimeError, ValueError, NameError, subprocess.CalledProcessError) as error:
            raise UsageError(f"submitit: {one_line(error)}") from error
        say(f"job {self.job.job_id}, its output is in {self.job.paths.stderr}")

    def wait(self) -> Ending:
        try:
            return Ending(*self.job.result())
        except Exception as error:  # submitit's own classes, and whatever a job raises
            return Ending(1, one_line(error)[:500])

    def stop(self) -> None:
        self.job.cancel(check=False)
