"""MuJoCo Playground on the device: dm_control's suite, locomotion, manipulation.

`playground/CheetahRun` is simulated by MJX, `playground/CheetahRun@warp` by MuJoCo Warp, which
needs an NVIDIA GPU. Walking humanoids are pushed at random only if their name says so:
`playground/T1JoystickFlatTerrain@pushes`, or `@warp+pushes`.
"""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any

import jax

from tiebreak.core.errors import UsageError, unknown
from tiebreak.envs.jax_simulator import Drawing, SimulatedEnv, split_physics
from tiebreak.envs.mujoco_advice import without_advice, without_greetings
from tiebreak.envs.playground_assets import use_installed

with without_greetings():
    from mujoco_playground import registry
    from mujoco_playground._src import mjx_env

PHYSICS = ("jax", "warp")
"""Physics backends of MJX; the first is the default."""

UNPUSHED = (
    "G1JoystickFlatTerrain", "G1JoystickRoughTerrain",
    "T1JoystickFlatTerrain", "T1JoystickRoughTerrain",
)  # fmt: skip
"""Tasks whose random pushes FastTD3's authors switch off, in training and in evaluation."""

NO_PUSHES = {"push_config.enable": False, "push_config.magnitude_range": [0.0, 0.0]}


def make(name: str, num_envs: int, seed: int, render: bool = False) -> SimulatedEnv:
    """Make `num_envs` environments of `task` or `task@physics`; keys are arguments, not `seed`.

    They are made no differently to `render`.

    Raises UsageError for an unknown task or physics, where Warp cannot run, and where a robot's
    meshes are not installed.
    """
    task, physics, pushes = split_name(name)
    env = _load(task, physics, pushes)
    config: Any = registry.get_default_config(task)
    limit_steps = math.ceil(config.episode_length / config.action_repeat)
    shared = {"shared": _shared} if physics == "warp" else {}
    drawing = Drawing(env.mj_model, _pose)
    return SimulatedEnv(env, num_envs, limit_steps, config.action_repeat, drawing=drawing, **shared)


def _pose(states: Any) -> dict[str, Any]:
    names = "qpos", "qvel", "mocap_pos", "mocap_quat", "xfrc_applied"
    return {name: getattr(states.data, name) for name in names}


def split_name(name: str) -> tuple[str, str, bool]:
    """Split `task@physics` into the task, its physics, and True if it has Playground's own pushes.

    Pushes are Playground's for every task that is not in UNPUSHED, and for those with `@pushes` or
    `@warp+pushes`.
    """
    if name.partition("@")[0] not in UNPUSHED:
        return *split_physics("playground", name, PHYSICS), True
    task, chosen = split_physics("playground", name, (*PHYSICS, "pushes", "warp+pushes"))
    pushes = chosen.endswith("pushes")
    physics = chosen.removesuffix("pushes").removesuffix("+") or PHYSICS[0]
    return task, physics, pushes


def tasks() -> list[str]:
    """Return all tasks that come with Playground."""
    return list(registry.ALL_ENVS)


@functools.cache
def _load(task: str, physics: str, pushes: bool) -> Any:
    """Make one environment; it holds no state, so training and evaluation share it."""
    if task not in tasks():
        valid = [f"playground/{name}" for name in tasks()]
        raise unknown("task", f"playground/{task}", valid, "(tiebreak list --tasks playground)")
    has_physics = "impl" in registry.get_default_config(task)
    if physics == "warp":
        _require_warp(task, has_physics)
    use_installed(mjx_env)
    changes = {"impl": physics} if has_physics else {}
    changes |= {} if pushes else NO_PUSHES
    with without_advice(), warnings.catch_warnings():  # about Playground's own model files
        warnings.simplefilter("ignore")
        return registry.load(task, config_overrides=changes or None)


def _require_warp(task: str, has_physics: bool) -> None:
    if not has_physics:
        raise UsageError(f"task 'playground/{task}' has no choice of physics; leave @warp out")
    try:
        jax.devices("cuda")
    except RuntimeError as error:
        platforms = ", ".join(sorted({device.platform for device in jax.devices()}))
        raise UsageError(
            f"task 'playground/{task}@warp' needs an NVIDIA GPU, and JAX sees none here (it sees: "
            f"{platforms}); use 'playground/{task}'"
        ) from error


def _shared(path: tuple) -> bool:
    """Return whether all worlds of Warp share a leaf of their state, as they share contacts."""
    from mujoco.mjx.warp.types import DATA_NON_VMAP

    return getattr(path[-1], "name", "") in DATA_NON_VMAP
