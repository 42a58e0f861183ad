"""`tiebreak.evaluate`: run a stored policy greedily, in any framework."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tiebreak import registry
from tiebreak.core.errors import UsageError
from tiebreak.core.types import EnvSpec
from tiebreak.envs.policy_observation import make_spec_for
from tiebreak.envs.task import Task
from tiebreak.loops.evaluate import GreedyEpisodes, evaluate_policy
from tiebreak.training import policy_files
from tiebreak.training.memory_needs import require_evaluation
from tiebreak.training.request import check_max_steps, check_settings


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
    cut: int
    """Episodes that did not end within `max_steps`, and were cut."""
    max_steps: int


def evaluate(
    directory: str | Path,
    *,
    framework: str | None = None,
    mode: str | None = None,
    episodes: int = 16,
    seed: int | None = None,
    task: str | Task | None = None,
    env: str | Callable[[], Any] | None = None,
    precision: str = "float32",
    device: str = "cpu",
    max_steps: int | None = None,
    allow_import: bool = False,
) -> EvalResult:
    """Run the policy in `directory` (a training run) for `episodes` episodes without noise.

    `framework`, `task` and `seed` default to those of the training, whose final evaluation is then
    repeated. `env` names a task as in `tiebreak.train`. Episodes are cut after `max_steps` or the
    task's own limit, whichever is less; without either, after 10 000. A module that only the
    policy's file names is imported with `allow_import` alone. Raises UsageError for a folder that
    is not a run, or a task that does not fit.
    """
    policy = policy_files.load_runnable(directory, allow_import)
    framework = framework or str(policy.metadata.get("framework"))
    trained_on = Task.parse(str(policy.metadata.get("task")))
    is_chosen = task is not None or env is not None
    chosen = Task.choose(task, env) if is_chosen else trained_on
    check_max_steps("max_steps", max_steps)
    check_request(policy.spec, episodes, chosen, directory, allow_import or is_chosen)
    seed = int(policy.metadata.get("seed", 0)) if seed is None else seed
    check_settings(policy.algorithm, framework, chosen, mode=mode, precision=precision, seed=seed)
    mode = registry.evaluation_mode(framework, mode)
    with registry.kept_settings(framework, mode):
        runtime = registry.make_runtime(framework, mode, precision, device)
        found = _run_policy(policy, runtime, chosen, trained_on, episodes, seed, max_steps)
    return _to_result(found, policy.algorithm, str(chosen), framework, mode, seed)


def _to_result(
    found: GreedyEpisodes, algorithm: str, task: str, framework: str, mode: str, seed: int
) -> EvalResult:
    return EvalResult(
        returns=found.returns,
        mean=float(np.mean(found.returns)),
        std=float(np.std(found.returns)),
        algorithm=algorithm,
        task=task,
        framework=framework,
        mode=mode,
        seed=seed,
        cut=found.cut,
        max_steps=found.limit,
    )


def check_request(
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
    max_steps: int | None,
) -> GreedyEpisodes:
    """Run a stored policy greedily, executed by `runtime`."""
    if task != trained_on or task.factory is not None:
        require_fit(policy, task, trained_on)
    raw_agent = registry.make_raw_agent(policy.algorithm, policy.spec, policy.config, runtime)
    return evaluate_policy(
        algorithm=policy.algorithm,
        runtime=runtime,
        raw_agent=raw_agent,
        config=policy.config,
        state=runtime.agent(raw_agent).load(policy.weights),
        task=task,
        episodes=episodes,
        seed=seed,
        processes=policy.config.env_processes if task == trained_on else 1,
        max_steps=max_steps,
    )


def require_fit(policy: policy_files.Policy, task: Task, trained_on: Task) -> None:
    """Raise UsageError unless the task has the shapes and bounds of the policy's own."""
    spec = make_spec_for(policy.algorithm, task)
    if spec != policy.spec:
        raise UsageError(
            f"the policy was trained on {str(trained_on)!r} and does not fit {str(task)!r}: "
            f"{policy.spec} against {spec}"
        )
