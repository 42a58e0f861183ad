"""What a training run was asked for: checked before anything is imported, resolved, described."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tiebreak import registry
from tiebreak.core import config as configs
from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.git import commit
from tiebreak.envs.base import make_env, parse_task
from tiebreak.loops.base import choose_kind
from tiebreak.training.versions import of_run


def check(
    algorithm: str,
    framework: str,
    task: str,
    mode: str | None = None,
    loop: str | None = None,
    precision: str = "float32",
    seed: int = 0,
) -> str:
    """Everything that can be known to be wrong before anything is imported; returns the mode."""
    registry.algorithm(algorithm)
    row, mode = registry.framework(framework), registry.mode(framework, mode)
    engine, _ = parse_task(task)
    choose_kind(framework, task, loop, mode)
    if not 0 <= seed < 2**31:
        raise UsageError(f"seed is {seed}; it must be in 0 to {2**31 - 1}")
    if precision not in registry.PRECISIONS:
        raise unknown("precision", precision, registry.PRECISIONS)
    registry.require_packages(f"framework {framework!r}", row.packages, row.extra)
    env = registry.ENGINES[engine]
    registry.require_packages(f"engine {engine!r}", env.packages, env.extra)
    return mode


def check_population(
    framework: str, task: str, mode: str | None, loop: str | None, seed: int, seeds: int
) -> None:
    """Whether the agents of so many seeds can be one program; `check` comes after it."""
    if seeds < 1 or seed + seeds > 2**31:
        raise UsageError(f"seeds is {seeds}; it must be at least 1, and the last below {2**31}")
    row, mode = registry.framework(framework), registry.mode(framework, mode)
    engine = registry.ENGINES[parse_task(task)[0]]
    if row.runtime == "jax" and engine.kind == "device" and mode != "eager" and loop != "host":
        return
    frameworks = [name for name, r in registry.FRAMEWORKS.items() if r.runtime == "jax"]
    engines = [name for name, e in registry.ENGINES.items() if e.kind == "device"]
    raise UsageError(
        "--seeds and --sweep train all agents in one compiled program: it takes "
        f"{', '.join(frameworks)}, on an engine that runs on the device ({', '.join(engines)}), "
        f"without --loop host and --mode eager; train {framework} {mode} on {task!r} seed by seed, "
        "with --seed"
    )


def resolve_config(
    algorithm: str, task: str, config: Any, overrides: Mapping[str, Any] | None
) -> Any:
    """`config`, or the reference for the task, with `overrides` put in and checked.

    None where nothing is asked for: the loop then takes the reference itself.
    """
    if not overrides:
        return config
    module = registry.config_module(algorithm)
    configs.override(module.Config(), overrides)  # wrong names and types: before a task is made
    return module.check(configs.override(config or _reference(algorithm, task), overrides))


def _reference(algorithm: str, task: str) -> Any:
    env = make_env(task)
    config = registry.reference_config(algorithm, env.spec, task)
    getattr(env, "close", lambda: None)()
    return config


def resolve_variants(
    algorithm: str, task: str, config: Any, sweep: Mapping[str, Sequence[Any]]
) -> list[dict[str, float]]:
    """Every combination of the values that a sweep names, the last name's changing first; [{}] of
    an empty one. Each is checked as a config of its own would be.
    """
    module = registry.config_module(algorithm)
    numbers = configs.names_of(module.Config, float)
    for name in sweep:
        if name not in numbers:
            raise unknown("setting to sweep", name, numbers)
    if not sweep:
        return [{}]
    config, found = config or _reference(algorithm, task), []
    for values in itertools.product(*sweep.values()):
        one = module.check(configs.override(config, dict(zip(sweep, values, strict=True))))
        found.append({name: getattr(one, name) for name in sweep})
    return found


def of_task(algorithm: str, task: str, config: Any) -> list[str]:
    """What the task has chosen of the settings, in a line for whoever did not; [] if nothing."""
    chosen = registry.task_settings(algorithm, task)
    held = [f"{k} {v}" for k, v in chosen.items() if getattr(config, k) == v]
    return [f"as this task's reference has it: {', '.join(held)}"] if held else []


def of_memory(about: Mapping[str, Any]) -> list[str]:
    """What a fused loop will hold, in a line; [] of a host loop."""
    if "memory" not in about:
        return []
    held, working, total = (about["memory"][f"{x}_bytes"] for x in ("agent", "working", "total"))
    return [
        f"takes {total / 2**20:,.0f} MiB: for each agent {held / 2**20:,.1f} of weights, "
        f"optimizer, environments, replay, and {working / 2**20:,.1f} of random numbers and rollout"
    ]


class Intervals(NamedTuple):
    """What happens beside training, and how often, in environment steps."""

    eval_episodes: int = 16
    """Greedy episodes in every evaluation, the last one included; 0: none."""
    eval_every: int = 0
    """0: at the end only."""
    checkpoint_every: int | None = None
    """None: ten times in a run; 0: never."""

    def check(self) -> None:
        """Raise UsageError where these make no sense."""
        for name, value in self._asdict().items():
            if value is not None and value < 0:
                raise UsageError(f"{name} is {value}; it must be at least 0 (0: none)")
        if self.eval_every and not self.eval_episodes:
            raise UsageError(f"eval_every is {self.eval_every}, but eval_episodes is 0")

    def checkpoint_steps(self, total_steps: int) -> int:
        """`checkpoint_every`, resolved."""
        return -(-total_steps // 10) if self.checkpoint_every is None else self.checkpoint_every


def describe(
    algorithm: str, framework: str, task: str, loop: Any, seed: int, intervals: Intervals
) -> dict[str, Any]:
    """Everything that decides what a run does, resolved, and the command that repeats it."""
    runtime, reference = loop.runtime, registry.reference_config(algorithm, loop.spec, task)
    request = {
        "algorithm": algorithm,
        "framework": framework,
        "task": task,
        "mode": runtime.mode,
        "loop": loop.kind,
        "seed": seed,
        "precision": runtime.precision,
        "device": runtime.device,
        "eval_episodes": intervals.eval_episodes,
        "eval_every": intervals.eval_every,
        "config": configs.to_dict(loop.config),
    }
    return {
        "schema": 1,
        **request,
        **({"memory": loop.memory._asdict()} if loop.memory else {}),
        "config_hash": configs.digest(request),
        "spec": dataclasses.asdict(loop.spec),
        "command": command({**request, **intervals._asdict()}, configs.to_dict(reference)),
        "commit": commit(),
        "versions": of_run(framework, parse_task(task)[0]),
        "started_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def command(request: dict[str, Any], reference: dict[str, Any]) -> str:
    """The command line that makes this run again, wherever it was started from."""
    words = ["tiebreak", "train", request["algorithm"]]
    for name in ("framework", "task", "mode", "loop", "seed"):
        words += [f"--{name}", str(request[name])]
    usual = {"precision": "float32", "device": "cpu", **Intervals()._asdict()}
    for name, value in usual.items():
        if request[name] != value:
            words += [f"--{name.replace('_', '-')}", str(request[name])]
    for name, value in request["config"].items():
        if value != reference[name]:
            text = ",".join(map(str, value)) + "," if isinstance(value, list) else str(value)
            words += ["--set", f"{name}={text}"]
    return shlex.join(words)
