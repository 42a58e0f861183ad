"""`tiebreak.train`: one agent, from its settings to an evaluated policy in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiebreak.envs.task import Task
from tiebreak.training.executors import start
from tiebreak.training.request import Intervals, TrainingRequest
from tiebreak.training.session import TrainResult


def train(
    algorithm: str,
    framework: str,
    task: str,
    *,
    mode: str | None = None,
    loop: str | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    config: Any = None,
    overrides: Mapping[str, Any] | None = None,
    precision: str = "float32",
    device: str = "cpu",
    eval_episodes: int = 16,
    eval_every: int = 0,
    checkpoint_every: int | None = None,
    resume: bool = False,
    progress: bool = True,
) -> TrainResult:
    """Train on `task` for `config.total_steps` steps, evaluate greedily, store all in `out`.

    Keywords are described in TrainingRequest and Intervals. Raises UsageError, MissingDependency,
    TrainingFailed (a loss that is no number, a full disk) and TrainingInterrupted.
    """
    request = TrainingRequest(
        algorithm=algorithm,
        framework=framework,
        task=Task.parse(task),
        mode=mode,
        loop=loop,
        config=config,
        overrides=overrides or {},
        seed=seed,
        precision=precision,
        device=device,
        intervals=Intervals(eval_episodes, eval_every, checkpoint_every),
        out=out,
        resume=resume,
    )
    return start(request, progress=progress)
