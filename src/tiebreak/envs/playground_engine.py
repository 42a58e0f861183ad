"""MuJoCo Playground on the device: dm_control's suite, locomotion, manipulation.

`playground/CheetahRun` is simulated by MJX, `playground/CheetahRun@warp` by MuJoCo Warp, which
needs an NVIDIA GPU.
"""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any

import jax

from tiebreak.core.errors import UsageError, unknown
from tiebreak.envs.jax_simulator import SimulatedEnv, split_physics
from tiebreak.envs.mujoco_advice import without_advice, without_greetings
from tiebreak.envs.playground_assets import use_installed

with without_greetings():
    from mujoco_playground import registry
    from mujoco_playground._src import mjx_env

PHYSICS = ("jax", "warp")


def make(name: str, num_envs: int, seed: int) -> SimulatedEnv:
    """`num_envs` environments of `task` or `task@physics`; `seed` is not used, keys are arguments.

    Raises UsageError for an unknown task or physics, where Warp cannot run, and where a robot's
    meshes are not installed.
    """
    task, physics = split_physics("playground", name, PHYSICS)
    env = _load(task, physics)
    config: Any = registry.get_default_config(task)
    limit_steps = math.ceil(config.episode_length / config.action_repeat)
    shared = {"shared": _shared} if physics == "warp" else {}
    return SimulatedEnv(env, num_envs, limit_steps, config.action_repeat, **shared)


def tasks() -> list[str]:
    """All that come with Playground."""
    return list(registry.ALL_ENVS)


@functools.cache
def _load(task: str, physics: str) -> Any:
    """One environment, which holds no state: made once, it serves training and evaluation."""
    if task not in tasks():
        valid = [f"playground/{name}" for name in tasks()]
        raise unknown("task", f"playground/{task}", valid, "(tiebreak list --tasks playground)")
    chooses = "impl" in registry.get_default_config(task)
    if physics == "warp":
        _require_warp(task, chooses)
    use_installed(mjx_env)
    with without_advice(), warnings.catch_warnings():  # about Playground's own model files
        warnings.simplefilter("ignore")
        return registry.load(task, config_overrides={"impl": physics} if chooses else None)


def _require_warp(task: str, chooses: bool) -> None:
    if not chooses:
        raise UsageError(f"task 'playground/{task}' has no choice of physics; leave @warp out")
    try:
        jax.devices("cuda")
    except RuntimeError as error:
        there = ", ".join(sorted({device.platform for device in jax.devices()}))
        raise UsageError(
            f"task 'playground/{task}@warp' needs an NVIDIA GPU, and JAX sees none here (it sees: "
            f"{there}); use 'playground/{task}'"
        ) from error


def _shared(path: tuple) -> bool:
    """Whether all worlds of Warp have a leaf of their state together, as they have contacts."""
    from mujoco.mjx.warp.types import DATA_NON_VMAP

    return getattr(path[-1], "name", "") in DATA_NON_VMAP
