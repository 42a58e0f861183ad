"""Launchers: where the agents of a run become jobs: on this machine, in SLURM or in Ray.

A job is one command, `tiebreak train … --out RUN/agent-NNN`, with `--resume` from the second start
on. To add a launcher, write a module with `runs_here`, `cpus` and `make` (below) and add its row to
LAUNCHERS.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from tiebreak import registry
from tiebreak.core.config import parse_value
from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.text import quoted

if TYPE_CHECKING:
    from tiebreak.training.jobs import Command
    from tiebreak.training.request import TrainingRequest

LOCAL = "local"
"""Executor without a row: one program where possible, else one process after the other."""


class Job(Protocol):
    """One agent's training under way."""

    error: str
    """Why it could not be run, where that is known; empty otherwise."""

    def poll(self) -> int | None:
        """Return the exit status of the training, or None while it waits or runs.

        A status below 0 or above 128 says that a signal has ended it; jobs.KILLED, that nobody
        knows more than that it is gone.
        """
        ...

    def interrupt(self) -> None:
        """Let the training store what it has and end; the second time, without waiting."""
        ...

    def kill(self) -> None:
        """End the training at once."""
        ...


class Launcher(Protocol):
    """Starts jobs somewhere."""

    most: int
    """Jobs at once."""

    def start(self, command: Command) -> Job:
        """Start a job, or queue it."""
        ...

    def close(self) -> None:
        """Release what was taken to start jobs; all of them have ended."""
        ...


class LauncherRow(NamedTuple):
    """Facts about a launcher."""

    module: str
    """Where its functions lie:

    - `runs_here(options) -> bool`: whether jobs share the CPUs and the memory of this machine.
    - `cpus(options, jobs) -> int`: CPUs of each of so many jobs at once.
    - `make(request, options) -> Launcher`, for a resolved request.
    """
    options: tuple[str, ...] = ()
    """Names of options in `NAME:OPTION=VALUE,…`; with `…`, further ones are the library's."""
    packages: tuple[str, ...] = ()
    """Importable names that must be installed."""
    extra: str = ""
    """The extra of this package that installs them."""


LAUNCHERS = {
    "processes": LauncherRow("tiebreak.training.launch_processes"),
    "submitit": LauncherRow(
        "tiebreak.training.launch_submitit",
        options=("cluster", "partition", "timeout_min", "cpus_per_task", "mem_gb", "…"),
        packages=("submitit",),
        extra="submitit",
    ),
    "ray": LauncherRow(
        "tiebreak.training.launch_ray",
        options=("address", "num_cpus", "num_gpus", "memory"),
        packages=("ray",),
        extra="ray",
    ),
}


class Executor(NamedTuple):
    """An executor by its name, with its options."""

    name: str
    """A name of LAUNCHERS, LOCAL, or "": not chosen."""
    jobs: int | None
    """Jobs at once; None: not chosen."""
    options: Mapping[str, Any]

    @property
    def module(self) -> ModuleType:
        """The launcher's module; nothing that is optional is imported with it."""
        name = "processes" if self.name == LOCAL else self.name
        return registry.load(LAUNCHERS[name].module)

    @property
    def runs_here(self) -> bool:
        """Whether jobs share the CPUs and the memory of this machine."""
        return self.module.runs_here(self.options)

    def cpus(self, jobs: int) -> int:
        """Return the CPUs of each of so many jobs at once."""
        return self.module.cpus(self.options, jobs)

    def make(self, request: TrainingRequest) -> Launcher:
        """Return the launcher of a resolved request."""
        return self.module.make(request, self.options)


def parse_executor(text: str) -> Executor:
    """Parse `processes:4` or `submitit:partition=gpu,timeout_min=240`; imports nothing.

    Raises UsageError, and MissingDependency where a package is not installed.
    """
    name, _, listed = text.partition(":")
    if text and name != LOCAL and name not in LAUNCHERS:
        raise unknown("executor", name, (LOCAL, *LAUNCHERS))
    jobs, options = None, {}
    for item in filter(None, listed.split(",")):
        key, sign, value = item.partition("=")
        if not sign and key.isdecimal():
            jobs = int(key)
        elif sign and key and value:
            options[key] = parse_value(value)
        else:
            raise UsageError(f"--executor takes NAME:N or NAME:OPTION=VALUE,…, got {quoted(text)}")

    if name in LAUNCHERS:
        row = LAUNCHERS[name]
        registry.require_packages(f"executor {name!r}", row.packages, row.extra)
        _check_options(f"executor {name}", options, row.options)
    else:
        _check_options(f"executor {name}", options, ())
    return Executor(name, jobs, options)


def _check_options(what: str, options: Mapping[str, Any], valid: tuple[str, ...]) -> None:
    """Raise UsageError for an option that an executor does not have."""
    if "…" in valid:
        return
    for key in options:
        if not valid:
            raise UsageError(f"{what} has no options, got {key!r}")
        if key not in valid:
            raise unknown(f"option of {what}", key, valid)
