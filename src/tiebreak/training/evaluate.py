"""`tiebreak.evaluate`: run a stored policy greedily, in any framework."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tiebreak import registry
from tiebreak.core.errors import UsageError
from tiebreak.core.types import EnvSpec
from tiebreak.envs.policy_observation import make_spec_for
from tiebreak.envs.task import Task
from tiebreak.loops.evaluate import evaluate_policy
from tiebreak.training import policy_files
from tiebreak.training.memory_needs import require_evaluation
from tiebreak.training.request import check_settings


class EvalResult(NamedTuple):
    """Greedy returns, and what they were measured with."""

    returns: list[float]
    """One per episode."""
    mean: float
    std: float
    """Standard deviation over the episodes, biased (ddof 0)."""
    algorithm: str
    task: str
    framework: str
    mode: str
    seed: int


def evaluate(
    directory: str | Path,
    *,
    framework: str | None = None,
    mode: str | None = None,
    episodes: int = 16,
    seed: int | None = None,
    task: str | None = None,
    precision: str = "float32",
    device: str = "cpu",
    allow_import: bool = False,
) -> EvalResult:
    """Run the policy in `directory` (a training run) for `episodes` episodes without noise.

    `framework`, `task` and `seed` default to those of the training, whose final evaluation is then
    repeated. A module that only the policy's file names is imported with `allow_import` alone.
    Raises UsageError for a folder that is not a run, or a task that does not fit.
    """
    policy = policy_files.load_policy(directory)
    framework = framework or str(policy.metadata.get("framework"))
    trained_on = Task.parse(str(policy.metadata.get("task")))
    chosen = trained_on if task is None else Task.parse(task)
    _check_request(policy.spec, episodes, chosen, directory, allow_import or task is not None)
    seed = int(policy.metadata.get("seed", 0)) if seed is None else seed
    mode = check_settings(
        policy.algorithm, framework, chosen, mode=mode, precision=precision, seed=seed
    )
    with registry.kept_settings(framework):
        runtime = registry.make_runtime(framework, mode, precision, device)
        returns = _run_policy(policy, runtime, chosen, trained_on, episodes, seed)
    return EvalResult(
        returns=returns,
        mean=float(np.mean(returns)),
        std=float(np.std(returns)),
        algorithm=policy.algorithm,
        task=str(chosen),
        framework=framework,
        mode=mode,
        seed=seed,
    )


def _check_request(
    spec: EnvSpec, episodes: int, task: Task, directory: str | Path, may_import: bool
) -> None:
    """Refuse a wrong number of episodes, and to import a module that only a file names."""
    if episodes < 1:
        raise UsageError(f"episodes is {episodes}; it must be at least 1")
    require_evaluation(spec, episodes)
    if task.module and task.module not in sys.modules and not may_import:
        raise UsageError(
            f"the policy in {str(directory)!r} names an environment in the module {task.module!r}, "
            f"whose code would run: name the task yourself (--task {task}), or add --allow-import"
        )


def _run_policy(
    policy: policy_files.Policy,
    runtime: Any,
    task: Task,
    trained_on: Task,
    episodes: int,
    seed: int,
) -> list[float]:
    """Return the greedy returns of a stored policy, executed by `runtime`."""
    if task != trained_on:
        _require_fit(policy, task, trained_on)
    raw_agent = registry.make_raw_agent(policy.algorithm, policy.spec, policy.config, runtime)
    returns = evaluate_policy(
        algorithm=policy.algorithm,
        runtime=runtime,
        raw_agent=raw_agent,
        state=runtime.agent(raw_agent).load(policy.weights),
        task=task,
        episodes=episodes,
        seed=seed,
        processes=policy.config.env_processes if task == trained_on else 1,
    )
    return [float(r) for r in returns]


def _require_fit(policy: policy_files.Policy, task: Task, trained_on: Task) -> None:
    """Raise UsageError unless the task has the shapes and bounds of the policy's own."""
    spec = make_spec_for(policy.algorithm, task)
    if spec != policy.spec:
        raise UsageError(
            f"the policy was trained on {str(trained_on)!r} and does not fit {str(task)!r}: "
            f"{policy.spec} against {spec}"
        )
