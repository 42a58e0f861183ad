"""Start jobs as tasks of Ray: on this machine, or in the cluster at `address`.

Options of `--executor ray:…`: `address` (`auto`, or HOST:PORT), and what each job takes: `num_cpus`
(1), `num_gpus` (1 on a GPU), `memory` (bytes).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from tiebreak.core.errors import UsageError
from tiebreak.core.text import one_line
from tiebreak.training.jobs import KILLED, Command, RemoteJob
from tiebreak.training.request import TrainingRequest

NO_STATISTICS = {"RAY_USAGE_STATS_ENABLED": "0"}
"""Ray sends its makers nothing about trainings."""


def runs_here(options: Mapping[str, Any]) -> bool:
    """Return False: Ray gives jobs the CPUs and the memory of its nodes."""
    return False


def cpus(options: Mapping[str, Any], jobs: int) -> int:
    """Return the CPUs of each job."""
    return max(1, int(options.get("num_cpus", 1)))


def make(request: TrainingRequest, options: Mapping[str, Any]) -> RayCluster:
    """Return the launcher of a resolved request. Raises UsageError where there is no cluster."""
    resources = {
        "num_cpus": options.get("num_cpus", 1),
        "num_gpus": options.get("num_gpus", 0 if request.device == "cpu" else 1),
        **({"memory": options["memory"]} if "memory" in options else {}),
    }
    for name, value in resources.items():
        if not isinstance(value, int | float) or value < 0:
            raise UsageError(f"{name} is {value!r}; it must be a number, at least 0")
    return RayCluster(request.jobs or 1, options.get("address"), resources)


class RayCluster:
    """Starts jobs as tasks; Ray waits for a node that has what each takes."""

    def __init__(self, most: int, address: str | None, resources: Mapping[str, Any]):
        """Connect to a cluster, or start one here, unless this process is connected already."""
        import ray

        self.most = most
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            _connect(address)
        # A lost job is started again by whoever waits for it, as with every launcher.
        self._task = ray.remote(max_retries=0, **resources)(run_job)

    def start(self, command: Command) -> RayJob:
        """Hand a job over to Ray."""
        return RayJob(self._task.options(name=command.name).remote(RemoteJob(command)))

    def close(self) -> None:
        """Leave the cluster, or end it if it was started here."""
        import ray

        if self._is_ours:
            ray.shutdown()


def run_job(job: RemoteJob) -> int:
    """Run a job on a node of the cluster."""
    return job()


def _connect(address: str | None) -> None:
    """Connect to a cluster (None: the one of this machine, or a new one). Raises UsageError."""
    import ray

    try:
        with _kept_sigterm(), _variables(NO_STATISTICS):
            ray.init(
                address=address,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f" at {address!r}" if address else ""
        raise UsageError(f"Ray has no cluster{where}: {one_line(error)}") from error


@contextlib.contextmanager
def _kept_sigterm() -> Iterator[None]:
    """Give SIGTERM the handler back that it had: `ray.init` replaces it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables that have no value, until the block ends."""
    ours = [name for name in values if name not in os.environ]
    os.environ.update({name: values[name] for name in ours})
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


class RayJob:
    """A task of Ray."""

    error = ""

    def __init__(self, reference: Any):
        self._reference = reference
        self._status: int | None = None

    def poll(self) -> int | None:
        """Return the training's exit status; None while it waits or runs."""
        import ray

        if self._status is None and ray.wait([self._reference], timeout=0)[0]:
            self._status = self._read_status()
        return self._status

    def _read_status(self) -> int:
        """Return what the task has returned; KILLED if its worker or its node was lost."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        try:
            return ray.get(self._reference)
        except RayTaskError as error:
            self.error = one_line(error.cause)
            return 1
        except RayError:
            return KILLED

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the task, which lets the training end."""
        import ray

        if self.poll() is None:
            ray.cancel(self._reference)

    def kill(self) -> None:
        """Kill the task's worker, and the training with it."""
        import ray

        if self.poll() is None:
            ray.cancel(self._reference, force=True)
