"""`tiebreak.train`: one agent, from its settings to an evaluated policy in a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiebreak.loops.base import make_loop
from tiebreak.training import checkpoints as resuming
from tiebreak.training import options, policy_files
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
    eval_every: int = 0,
    checkpoint_every: int | None = None,
    resume: bool = False,
    progress: bool = True,
) -> TrainResult:
    """Train on `task` for `config.total_steps` steps, then evaluate greedily; all goes into `out`.

    `config=None` is the algorithm's reference for the task; `overrides` (name -> value, strings
    are parsed) changes it. `out=None` is a new folder under `runs/`. Every `eval_every` steps (0:
    never) the policy of that moment is evaluated, too; every `checkpoint_every` (None: ten times
    in a run, 0: never) all is stored that `resume=True` needs, with the same settings, to go on in
    `out`. Raises UsageError for wrong names, MissingDependency, TrainingFailed (a loss that is no
    number, a full disk) and TrainingInterrupted.
    """
    mode = options.check(algorithm, framework, task, mode, loop, precision, seed)
    intervals = options.Intervals(eval_episodes, eval_every, checkpoint_every)
    intervals.check()
    name = f"{algorithm}-{framework}-{task}-s{seed}"
    folder = resuming.require_run(out) if resume else policy_files.choose_folder(out, name)
    config = options.resolve_config(algorithm, task, config, overrides)
    settings = {"mode": mode, "loop": loop, "precision": precision, "device": device, "seed": seed}
    made = make_loop(algorithm, framework, task, config=config, **settings)
    with contextlib.closing(made):
        about = options.describe(algorithm, framework, task, made, seed, intervals)
        start = resuming.load(folder, made, about) if resume else (resuming.Marks(), [])
        return Session(made, folder, about, intervals, progress).complete(*start)
