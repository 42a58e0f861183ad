"""`tiebreak.evaluate`: a stored policy, run greedily in any framework."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from tiebreak import registry
from tiebreak.core.errors import UsageError
from tiebreak.envs.policy_observation import make_env_for
from tiebreak.loops.evaluate import evaluate_policy
from tiebreak.training import options, policy_files


class EvalResult(NamedTuple):
    """Greedy returns and what produced them."""

    returns: list[float]
    """One per episode."""
    mean: float
    std: float
    """Over the episodes, biased (ddof 0)."""
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
) -> EvalResult:
    """Run the policy in `directory` (a training run) for `episodes` episodes without noise.

    `framework=None` is the one that trained it; `seed=None` is the seed it was trained with, so
    that the final evaluation of the training repeats; `task=None` is the task it was trained on.
    Raises UsageError for a folder that is not a run or a task that the policy does not fit.
    """
    if episodes < 1:
        raise UsageError(f"episodes is {episodes}; it must be at least 1")
    policy = policy_files.load_policy(directory)
    framework = framework or str(policy.metadata.get("framework"))
    trained_on = str(policy.metadata.get("task"))
    task = task or trained_on
    seed = int(policy.metadata.get("seed", 0)) if seed is None else seed
    mode = options.check(policy.algorithm, framework, task, mode, precision=precision, seed=seed)
    runtime = registry.make_runtime(framework, mode, precision, device)
    if task != trained_on:
        _check_fits(policy, task, trained_on)
    raw = registry.make_raw_agent(policy.algorithm, policy.spec, policy.config, runtime)
    state = runtime.agent(raw).load(policy.weights)
    processes = policy.config.env_processes if task == trained_on else 1
    found = evaluate_policy(
        policy.algorithm, runtime, raw, state, task, episodes, seed, processes
    )  # fmt: skip
    returns = [float(r) for r in found]
    mean, std = float(np.mean(returns)), float(np.std(returns))
    return EvalResult(returns, mean, std, policy.algorithm, task, framework, mode, seed)


def _check_fits(policy: policy_files.Policy, task: str, trained_on: str) -> None:
    env = make_env_for(policy.algorithm, task)
    getattr(env, "close", lambda: None)()
    if env.spec != policy.spec:
        raise UsageError(
            f"the policy was trained on {trained_on!r} and does not fit {task!r}: "
            f"{policy.spec} against {env.spec}"
        )
