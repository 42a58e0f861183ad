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
from tiebreak.core.networks import is_own
from tiebreak.core.text import quoted
from tiebreak.core.types import EnvSpec
from tiebreak.training.request import Intervals, TrainingRequest
from tiebreak.training.versions import run_versions


def describe(request: TrainingRequest, loop: Any) -> dict[str, Any]:
    """Return the contents of `config.json` for a resolved request and the loop made for it."""
    runtime = loop.runtime
    as_run = dataclasses.replace(
        request,
        mode=runtime.mode,
        loop=loop.kind,
        precision=runtime.precision,
        device=runtime.device,
        config=loop.config,
    )
    memory = {"memory": loop.memory._asdict()} if loop.memory else {}
    ranks = {"ranks": loop.ranks.count} if loop.ranks.count > 1 else {}
    return {**describe_request(as_run, loop.spec), **ranks, **memory}


def describe_request(request: TrainingRequest, spec: EnvSpec) -> dict[str, Any]:
    """Return the same for a resolved request alone; `spec` is its task's."""
    settings = _settings(request)
    return {
        "schema": 1,
        **settings,
        **({"threads": request.threads} if request.threads else {}),
        "config_hash": configs.digest(settings),
        "spec": dataclasses.asdict(spec),
        "command": command_of(request, spec),
        "commit": commit(),
        "versions": run_versions(request.framework, request.task.engine, request.mode),
        "started_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _settings(request: TrainingRequest) -> dict[str, Any]:
    """Return what decides the numbers of a run."""
    optional = {"eval_max_steps": request.intervals.eval_max_steps, "init_from": request.init_from}
    return {
        "algorithm": request.algorithm,
        "framework": request.framework,
        "task": str(request.task),
        "mode": request.mode,
        "loop": request.loop,
        "seed": request.seed,
        "precision": request.precision,
        "device": request.device,
        "eval_episodes": request.intervals.eval_episodes,
        "eval_every": request.intervals.eval_every,
        **{name: value for name, value in optional.items() if value is not None},
        "config": configs.to_dict(request.config),
    }


def command_of(request: TrainingRequest, spec: EnvSpec) -> str:
    """Return the command that repeats one agent's run, from any folder."""
    reference = registry.reference_config(request.algorithm, spec, str(request.task))
    more = {**request.intervals._asdict(), "track": request.track}
    return command_line({**_settings(request), **more}, configs.to_dict(reference))


def command_line(settings: Mapping[str, Any], reference: Mapping[str, Any]) -> str:
    """Return the command that repeats a run, from any folder.

    `settings` are those of `describe_request` with all intervals and `track`; settings of the
    algorithm that equal the `reference` are left out.
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
    """Return lines on settings that the task's reference chose and are in use, and on networks."""
    chosen = registry.task_settings(algorithm, task)
    in_use = [f"{k} {v}" for k, v in chosen.items() if getattr(config, k) == v]
    notes = [f"as this task's reference has it: {', '.join(in_use)}"] if in_use else []
    if is_own(config.network):
        notes.append(f"network {quoted(config.network)} is your own: not proved equal to anything")
    return notes


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
