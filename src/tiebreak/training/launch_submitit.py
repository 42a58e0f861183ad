"""Start jobs with submitit: in SLURM, or as its local jobs where there is no SLURM.

Options of `--executor submitit:…` are submitit's: `timeout_min`, `cpus_per_task`, `gpus_per_node`,
`mem_gb`, and those of SLURM (`partition`, `account`, `qos`, …). `cluster=local` chooses local jobs.
submitit's files are in `submitit/` in the run's folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from tiebreak.core.errors import UsageError
from tiebreak.core.files import read_json_or_empty, write_json
from tiebreak.core.process_env import safe_children
from tiebreak.core.text import one_line
from tiebreak.training import launch_processes
from tiebreak.training.jobs import KILLED, Command, RemoteJob
from tiebreak.training.request import TrainingRequest

FOLDER = "submitit"
SLURM_MINUTES = 240
"""Default time limit of a job in SLURM, after which it is queued again and goes on."""
LOCAL_MINUTES = 366 * 24 * 60
"""Default time limit of a local job: none."""
MOST_TIMEOUTS = 10**6
"""Times that a job may reach its limit and be queued again: always."""
POLL_S, ASK_SLURM_S = 1.0, 30.0
"""Seconds between looks for a job's result, and between questions to SLURM about all jobs."""
ALIVE = ("PENDING", "RUNNING", "REQUEUED", "SUSPENDED", "COMPLETING", "PREEMPTED")
"""States in SLURM of a job that is going to run, or runs."""


def runs_here(options: Mapping[str, Any]) -> bool:
    """Return whether jobs share the CPUs and the memory of this machine."""
    return _cluster(options) == "local"


def cpus(options: Mapping[str, Any], jobs: int) -> int:
    """Return the CPUs of each of so many jobs at once; SLURM gives one unless asked for more."""
    if runs_here(options):
        return launch_processes.cpus({}, jobs)
    return int(options.get("cpus_per_task", 1))


def _cluster(options: Mapping[str, Any]) -> str:
    """Return `slurm` where its commands are installed, unless another cluster is chosen."""
    return options.get("cluster") or ("slurm" if shutil.which("srun") else "local")


def make(request: TrainingRequest, options: Mapping[str, Any]) -> Submitit:
    """Return the launcher of a resolved request. Raises UsageError for options that are none."""
    import submitit
    from submitit.core.plugins import get_executors

    cluster = _cluster(options)
    if cluster not in get_executors() or cluster == "debug":
        raise UsageError(f"cluster is {cluster!r}; submitit has slurm and local")
    try:
        executor = submitit.AutoExecutor(
            request.folder / FOLDER,
            cluster=cluster,
            slurm_max_num_timeout=MOST_TIMEOUTS,
            local_max_num_timeout=MOST_TIMEOUTS,
        )
        executor.update_parameters(**_parameters(options, cluster, request.device))
    except (AssertionError, NameError, RuntimeError, TypeError, ValueError) as error:
        with contextlib.suppress(OSError):  # it was made already
            (request.folder / FOLDER).rmdir()
        raise UsageError(f"submitit refuses these options: {one_line(error)}") from error
    for old in (request.folder / FOLDER).glob("*_result.pkl"):
        old.unlink()  # a result is unpickled: only those of this process's jobs are
    return Submitit(request.jobs or 1, executor, cluster)


def _parameters(options: Mapping[str, Any], cluster: str, device: str) -> dict[str, Any]:
    """Return submitit's parameters; those that only SLURM has get its prefix."""
    import submitit

    general = submitit.AutoExecutor._typed_parameters()
    given = {
        name if name in general or name.startswith(("slurm_", "local_")) else f"slurm_{name}": value
        for name, value in options.items()
        if name != "cluster"
    }
    return {
        "name": "tiebreak",
        "timeout_min": SLURM_MINUTES if cluster == "slurm" else LOCAL_MINUTES,
        **({} if device == "cpu" else {"gpus_per_node": 1}),
        **given,
    }


class Submitit:
    """Starts jobs by submitit's executor."""

    def __init__(self, most: int, executor: Any, cluster: str):
        self.most = most
        self._executor = executor
        self._is_local = cluster == "local"
        self._asked_s = -ASK_SLURM_S

    def start(self, command: Command) -> SubmititJob:
        """Queue a job, or take over the one that another manager has left in SLURM's queue."""
        notes = Path(command.folder).parent / FOLDER / f"{command.name}.json"
        job = None if self._is_local else _queued_job(notes)
        if job is None:
            job = self._submit(command)
            write_json(notes, {"job_id": job.job_id})
        return SubmititJob(job, self._is_local, self._asks_slurm)

    def _submit(self, command: Command) -> Any:
        """Queue a job. A local one ends with this process; SLURM's go on without it."""
        from submitit.helpers import clean_env

        remote = RemoteJob(command, manager=os.getpid() if self._is_local else None)
        with safe_children(), _without_ctrl_c() if self._is_local else clean_env():
            try:
                return self._executor.submit(remote)
            except RuntimeError as error:  # of `sbatch`
                raise UsageError(f"SLURM refuses a job: {one_line(error)}") from error

    def _asks_slurm(self) -> bool:
        """Return whether it is time to ask SLURM again; one answer is about all jobs."""
        is_time = time.monotonic() - self._asked_s >= ASK_SLURM_S
        if is_time:
            self._asked_s = time.monotonic()
        return is_time

    def close(self) -> None:
        """Do nothing: SLURM's queue stays."""


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Keep the terminal's Ctrl-C from processes that are started inside: it is passed on to them.

    submitit's controller would leave a training one second for its checkpoint.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _queued_job(notes: Path) -> Any:
    """Return the job that is noted in a file, if SLURM still has it; else None."""
    import submitit

    job_id = read_json_or_empty(notes).get("job_id")
    if job_id is None:
        return None
    job = submitit.SlurmJob(notes.parent, str(job_id))
    state = job.watcher.get_state(job.job_id, mode="force")
    return job if state.startswith(ALIVE) and not job.paths.result_pickle.exists() else None


class SubmititJob:
    """A job of submitit."""

    error = ""

    def __init__(self, job: Any, is_local: bool, asks_slurm: Any):
        self._job, self._is_local, self._asks_slurm = job, is_local, asks_slurm
        self._polled_s = time.monotonic()
        self._status: int | None = None

    def poll(self) -> int | None:
        """Return the training's exit status; None while it waits or runs. Looks once a second."""
        if self._status is None and time.monotonic() - self._polled_s >= POLL_S:
            self._polled_s = time.monotonic()
            if self._job.done(force_check=self._asks_slurm()):
                self._status = self._read_status()
        return self._status

    def _read_status(self) -> int:
        """Return the exit status that the job has left; KILLED if it has left none."""
        if not self._job.paths.result_pickle.exists():
            return KILLED
        outcome, result = self._job._get_outcome_and_result()
        if outcome == "success":
            return result
        last = one_line(result.strip().splitlines()[-1])
        if "UncompletedJobError" in last:
            return KILLED
        self.error = last
        return 1

    def interrupt(self) -> None:
        """Let SLURM, or submitit's local controller, send SIGTERM."""
        if self._job.done():
            return
        if self._is_local:
            os.kill(int(self._job.job_id), signal.SIGTERM)
        else:
            self._job.cancel(check=False)

    def kill(self) -> None:
        """End the job at once; SLURM waits for half a minute."""
        if not self._is_local:
            self._job.cancel(check=False)
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            controller = psutil.Process(int(self._job.job_id))
            for process in [*controller.children(recursive=True), controller]:
                process.kill()
