"""`tiebreak.train`: one agent, from its settings to an evaluated policy in a folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from tiebreak import registry
from tiebreak.core.config import ALIASES
from tiebreak.core.errors import UsageError, unknown
from tiebreak.envs.task import Task
from tiebreak.training.executors import start
from tiebreak.training.request import Intervals, TrainingRequest
from tiebreak.training.result import TrainResult
from tiebreak.training.trackers import Tracker, as_tracker

OPTIONS = (
    "mode", "loop", "seed", "out", "config", "overrides", "precision", "device", "resume",
    "init_from", "track", "seeds", "sweep", "jobs", "executor", "sampler", "trials", "prune",
    "distributed",
)  # fmt: skip
"""Keywords of `train` that are fields of TrainingRequest."""


def train(
    algorithm: str,
    framework: str,
    task: str | Task | None = None,
    *,
    env: str | Callable[[], Any] | None = None,
    callback: Callable[[int, Mapping[str, Any]], Any] | Tracker | None = None,
    progress: bool = True,
    **keywords: Any,
) -> TrainResult:
    """Train on a task for `total_steps` steps, evaluate greedily, and store all in a folder.

    Args:
        algorithm: A name of `tiebreak list`, as is `framework`.
        task: `engine/name`, e.g. `gymnax/CartPole-v1`.
        env: In place of `task`: an id of Gymnasium, or a function without arguments that makes an
            environment. Resuming and evaluating need the same function again.
        callback: A function of steps and a line of metrics.jsonl or (with `returns`) of eval.jsonl,
            which ends training by returning False; or an object with some methods of Tracker.
        progress: Whether to show progress on stderr.
        keywords: Settings of the algorithm (`learning_rate=1e-3`, `total_steps=100_000`, …); fields
            of TrainingRequest (seed, seeds, sweep, out, mode, device, resume, track, …) and of
            Intervals (eval_every, checkpoint_every, keep_best, stop_at, …).

    Raises UsageError, MissingDependency, TrainingFailed (divergence, full disk), or an interrupt.
    """
    settings = dict(keywords)
    options = {name: settings.pop(name) for name in OPTIONS if name in keywords}
    intervals = {name: settings.pop(name) for name in Intervals._fields if name in keywords}
    options["overrides"] = _merge(algorithm, options.get("overrides") or {}, settings)
    request = TrainingRequest(
        algorithm=algorithm,
        framework=framework,
        task=Task.choose(task, env),
        intervals=Intervals(**intervals),
        trackers=() if callback is None else (as_tracker(callback),),
        **options,
    )
    return start(request, progress=progress)


def _merge(
    algorithm: str, overrides: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return all settings to change; UsageError for unknown names, and for names given twice."""
    names = [field.name for field in dataclasses.fields(registry.config_module(algorithm).Config)]
    own = ["task", "env", "callback", "progress", *OPTIONS, *Intervals._fields]
    for name in settings:
        if name not in names and name not in ALIASES:
            hint = f"(tiebreak list --settings {algorithm})"
            raise unknown("keyword", name, [*names, *own], hint)
        if name in overrides:
            raise UsageError(f"{name} is given twice: as a keyword and in overrides")
    return {**overrides, **settings}
