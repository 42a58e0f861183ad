"""Executors: who starts a training: this process, or a job for each agent (launchers.py)."""

from __future__ import annotations

import contextlib
from typing import Protocol

from tiebreak import registry
from tiebreak.core.seeding import seed_global_generators
from tiebreak.frameworks.threads import make_runtime
from tiebreak.training.agents import run_agents
from tiebreak.training.distributed import train_in_ranks
from tiebreak.training.launchers import parse_executor
from tiebreak.training.population import run_population
from tiebreak.training.request import TrainingRequest
from tiebreak.training.result import TrainResult
from tiebreak.training.session import run_training


class Executor(Protocol):
    """Starts a training somewhere, and waits for its result."""

    def train(self, request: TrainingRequest, *, progress: bool = True) -> TrainResult:
        """Run a resolved request to its end.

        Args:
            request: What to train; plain data, which another process can be sent.
            progress: Whether to show progress on stderr.

        Raises:
            TrainingFailed, TrainingInterrupted, or UsageError for what `resolve` cannot know.
        """
        ...


class LocalExecutor:
    """Trains in this process."""

    def train(self, request: TrainingRequest, *, progress: bool = True) -> TrainResult:
        if request.threads is not None:  # the process is ours, and only then it is set up
            assert request.mode is not None, "the request is not resolved"
            make_runtime(
                request.framework, request.mode, request.precision, request.device, request.threads
            )
            seed_global_generators(request.seed)  # after imports, some of which draw
        run = run_training if request.seeds is None else run_population
        # Before a checkpoint is read, lest another process writes a newer one meanwhile.
        with request.hold_folder() as held, registry.kept_settings(request.framework, request.mode):
            return run(held, progress)


class JobExecutor:
    """Trains each agent of a population as a job of its own; this process imports no framework."""

    def train(self, request: TrainingRequest, *, progress: bool = True) -> TrainResult:
        with request.hold_folder() as held:
            launcher = parse_executor(held.executor).make(held)
            with contextlib.closing(launcher):
                return run_agents(held, launcher, progress)


EXECUTORS: dict[str, type[Executor]] = {"local": LocalExecutor, "jobs": JobExecutor}


def start(request: TrainingRequest, *, executor: str = "", progress: bool = True) -> TrainResult:
    """Resolve a request, and train with the named executor; "": the one that the request needs."""
    if request.distributed is not None:  # processes join before anything is resolved
        return train_in_ranks(request, progress=progress)
    resolved = request.resolve()
    name = executor or ("jobs" if resolved.jobs else "local")
    return EXECUTORS[name]().train(resolved, progress=progress)
