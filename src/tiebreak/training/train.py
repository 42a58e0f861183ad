"""`tiebreak.train`: one agent, from its settings to an evaluated policy in a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiebreak.core.errors import UsageError
from tiebreak.loops.base import make_loop
from tiebreak.training import checkpoints, request
from tiebreak.training.session import Session, TrainResult


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
    progress: bool = True,
) -> TrainResult:
    """Train on `task` for `config.total_steps` steps, then evaluate greedily; all goes into `out`.

    `config=None` is the algorithm's reference for the task; `overrides` (name -> value, strings
    are parsed) changes it. `out=None` is a new folder under `runs/`. Raises UsageError for wrong
    names, MissingDependency, TrainingFailed (a loss that is no number) and TrainingInterrupted.
    """
    mode = request.check(algorithm, framework, task, mode, loop, precision, seed)
    if eval_episodes < 0:
        raise UsageError(f"eval_episodes is {eval_episodes}; it must be at least 0 (0: none)")
    config = request.resolve_config(algorithm, task, config, overrides)
    folder = checkpoints.choose_folder(out, f"{algorithm}-{framework}-{task}-s{seed}")
    settings = {"mode": mode, "loop": loop, "config": config, "precision": precision}
    made = make_loop(algorithm, framework, task, **settings, device=device, seed=seed)
    with contextlib.closing(made):
        about = request.describe(algorithm, framework, task, made, seed, eval_episodes)
        return Session(made, folder, about, progress).complete()
