"""Executors: who starts a training. This process is the first; processes or a cluster may follow.

To add one, write a class with `train` and add its row to EXECUTORS.
"""

from __future__ import annotations

from typing import Protocol

from tiebreak import registry
from tiebreak.core.seeding import seed_global_generators
from tiebreak.frameworks.threads import make_runtime
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
        with request.hold_folder() as held, registry.kept_settings(request.framework):
            return run(held, progress)


EXECUTORS: dict[str, type[Executor]] = {"local": LocalExecutor}


def start(
    request: TrainingRequest, *, executor: str = "local", progress: bool = True
) -> TrainResult:
    """Resolve a request, and train with the named executor."""
    return EXECUTORS[executor]().train(request.resolve(), progress=progress)
