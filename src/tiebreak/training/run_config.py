"""`config.json`: everything that decides what a run does, and the command that repeats it."""

from __future__ import annotations

import dataclasses
import datetime
import shlex
from collections.abc import Mapping
from typing import Any

from tiebreak import registry
from tiebreak.core import config as configs
from tiebreak.core.git import commit
from tiebreak.training.request import Intervals, TrainingRequest
from tiebreak.training.versions import run_versions


def describe(request: TrainingRequest, loop: Any) -> dict[str, Any]:
    """Return the contents of `config.json` for a resolved request and the loop made for it."""
    runtime, intervals = loop.runtime, request.intervals
    optional = {"eval_max_steps": intervals.eval_max_steps, "init_from": request.init_from}
    optional = {name: value for name, value in optional.items() if value is not None}
    settings = {
        "algorithm": request.algorithm,
        "framework": request.framework,
        "task": str(request.task),
        "mode": runtime.mode,
        "loop": loop.kind,
        "seed": request.seed,
        "precision": runtime.precision,
        "device": runtime.device,
        "eval_episodes": intervals.eval_episodes,
        "eval_every": intervals.eval_every,
        **optional,
        "config": configs.to_dict(loop.config),
    }
    reference = registry.reference_config(request.algorithm, loop.spec, str(request.task))
    memory = {"memory": loop.memory._asdict()} if loop.memory else {}
    return {
        "schema": 1,
        **settings,
        **memory,
        **({"threads": request.threads} if request.threads else {}),
        "config_hash": configs.digest(settings),
        "spec": dataclasses.asdict(loop.spec),
        "command": command_line(
            {**settings, **intervals._asdict(), "track": request.track}, configs.to_dict(reference)
        ),
        "commit": commit(),
        "versions": run_versions(request.framework, request.task.engine),
        "started_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def command_line(settings: Mapping[str, Any], reference: Mapping[str, Any]) -> str:
    """Return the command that repeats a run, from any folder.

    `settings` are those of `describe` with all intervals and `track`; settings of the algorithm
    that equal the `reference` are left out.
    """
    words = ["tiebreak", "train", settings["algorithm"]]
    for name in ("framework", "task", "mode", "loop", "seed"):
        words += [f"--{name}", str(settings[name])]

    defaults = {
        "precision": "float32", "device": "cpu", "init_from": None, **Intervals()._asdict(),
    }  # fmt: skip
    for name, default in defaults.items():
        if settings.get(name) == default:
            continue
        words.append(f"--{name.replace('_', '-')}")
        if not isinstance(default, bool):  # else the option alone says it
            words.append(str(settings[name]))
    if settings["track"]:
        words += ["--track", ",".join(settings["track"])]

    for name, value in settings["config"].items():
        if value == reference[name]:
            continue
        # The last comma makes a list of one value readable as a list.
        text = ",".join(map(str, value)) + "," if isinstance(value, list) else str(value)
        words += ["--set", f"{name}={text}"]
    return shlex.join(words)


def task_notes(algorithm: str, task: str, config: Any) -> list[str]:
    """Return a line with the settings in use that the task's reference chose; [] if none."""
    chosen = registry.task_settings(algorithm, task)
    in_use = [f"{k} {v}" for k, v in chosen.items() if getattr(config, k) == v]
    return [f"as this task's reference has it: {', '.join(in_use)}"] if in_use else []


def budget_notes(config: Any) -> list[str]:
    """Return a line where whole iterations do not add up to `total_steps`; [] where they do."""
    steps = config.num_iterations * config.iteration_steps
    if steps == config.total_steps:
        return []
    return [
        f"trains {steps:,} steps for total_steps={config.total_steps}: whole iterations, of "
        f"{config.iteration_steps:,} steps each"
    ]


def memory_notes(run_config: Mapping[str, Any]) -> list[str]:
    """Return a line with the memory that a fused loop takes; [] for a host loop."""
    if "memory" not in run_config:
        return []
    agent, working, total = (
        run_config["memory"][f"{x}_bytes"] for x in ("agent", "working", "total")
    )
    return [
        f"takes {total / 2**20:,.0f} MiB: for each agent {agent / 2**20:,.1f} of weights, "
        f"optimizer, environments, replay, and {working / 2**20:,.1f} of random numbers and rollout"
    ]
