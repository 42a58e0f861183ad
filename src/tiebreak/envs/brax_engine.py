"""brax on the device: `brax/ant`, or `brax/ant@spring` for another of its physics backends."""

from __future__ import annotations

import functools
import warnings
from typing import Any

from tiebreak.core.errors import UsageError, unknown
from tiebreak.envs.jax_simulator import Drawing, SimulatedEnv, split_physics
from tiebreak.envs.mujoco_advice import without_advice, without_greetings

with without_greetings():
    from brax import envs

PHYSICS = ("generalized", "spring", "positional", "mjx")
"""Physics backends of brax; the first is the default."""

LIMIT_STEPS = 1000
"""Steps after which episodes are truncated, as brax itself trains and evaluates."""


def make(name: str, num_envs: int, seed: int, render: bool = False) -> SimulatedEnv:
    """Make `num_envs` environments of `task` or `task@physics`; keys are arguments, not `seed`.

    They are made no differently to `render`.

    Raises UsageError for an unknown task or physics, for a task that lacks the physics, and to
    `render` an environment of a user's own that has no MuJoCo model.
    """
    env = _load(*split_physics("brax", name, PHYSICS))
    drawing = Drawing(env.sys.mj_model, _pose) if hasattr(env, "sys") else None
    if render and drawing is None:
        raise UsageError(f"task 'brax/{name}' has no model (`sys`) of which pictures can be made")
    return SimulatedEnv(env, num_envs, LIMIT_STEPS, drawing=drawing)


def tasks() -> list[str]:
    """Return all tasks that brax has registered, a user's own included."""
    return list(envs._envs)  # there is no public list


def _pose(states: Any) -> dict[str, Any]:
    return {"qpos": states.pipeline_state.q, "qvel": states.pipeline_state.qd}


@functools.cache
def _load(task: str, physics: str) -> Any:
    """Make one environment; it holds no state, so training and evaluation share it."""
    if task not in tasks():
        valid = [f"brax/{name}" for name in tasks()]
        raise unknown("task", f"brax/{task}", valid, "(tiebreak list --tasks brax)")
    try:
        with without_advice(), warnings.catch_warnings():  # about brax's own model files
            warnings.simplefilter("ignore")
            return envs.get_environment(task, backend=physics)
    except (NotImplementedError, ValueError) as error:
        raise UsageError(
            f"task 'brax/{task}' cannot be simulated with {physics!r}: {error} (brax has "
            f"{', '.join(PHYSICS)})"
        ) from error
