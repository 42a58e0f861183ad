"""The two kinds of vectorised environment, and how one is made for a task."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.core.errors import UsageError
from tiebreak.core.jax_devices import require_devices
from tiebreak.core.prefixes import Arrays
from tiebreak.core.types import Array, EnvSpec, EnvStep, Tree
from tiebreak.envs.task import Task

PICTURE = 480, 640
"""Height and width of the pictures that MuJoCo draws."""


class HostEnv(abc.ABC):
    """N environments driven from Python; arrays are NumPy, or a runtime's own behind the bridge.

    Environments reset within the step that ends an episode: `obs` starts the next one, `final_obs`
    ends the last one.
    """

    spec: EnvSpec
    num_envs: int
    time_limit: int = 0
    """Steps after which every episode is cut; 0: without a limit, or with one that is unknown."""

    @abc.abstractmethod
    def reset(self) -> Array:
        """Start every environment from the seed given at construction; return obs [N, *obs]."""

    @abc.abstractmethod
    def step(self, action: Array) -> EnvStep:
        """Step every environment; action [N] int or [N, A] within the bounds."""

    def snapshot(self) -> Arrays | None:
        """Return all that decides how the environments continue; None if the engine cannot."""
        return None

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Continue from a `snapshot` of the same task and number; call `reset` first."""
        raise NotImplementedError(f"{type(self).__name__} takes no snapshots")

    def failures(self) -> Array | None:
        """Return [N], the failures of each environment's simulator; None if that is not known."""
        return None

    @property
    def steps_per_s(self) -> float:
        """Steps in a second of simulated time, for videos; 0: unknown."""
        return 0.0

    def render(self, index: int) -> np.ndarray:
        """Return a picture of one environment, [height, width, 3] uint8.

        Only of environments that were made with `render=True`.
        """
        raise NotImplementedError(f"{type(self).__name__} draws no pictures")

    def close(self) -> None:  # noqa: B027 - most engines hold nothing
        """Release what the engine holds."""


class DeviceEnv(abc.ABC):
    """N environments as pure JAX functions; all randomness is drawn beforehand, in one batch.

    Drawing a whole rollout's reset states at once replaces "reset every environment at every
    step", which dominates small programs.
    """

    spec: EnvSpec
    num_envs: int

    @abc.abstractmethod
    def reset(self, key: Array) -> tuple[Tree, Array]:
        """Start every environment; return state and obs [N, *obs]."""

    @abc.abstractmethod
    def draw(self, key: Array, num_steps: int) -> Tree:
        """Draw everything random that `num_steps` steps can consume; leaves [num_steps, N, …]."""

    @abc.abstractmethod
    def step(self, state: Tree, action: Array, noise: Tree) -> tuple[Tree, EnvStep]:
        """Step every environment; `noise` is one row of `draw`."""

    def failures(self, state: Tree) -> Array | None:
        """Return [N], the failures of each environment's simulator; None if that is not known."""
        return None

    @property
    def steps_per_s(self) -> float:
        """Steps in a second of simulated time, for videos; 0: unknown."""
        return 0.0

    def render(self, state: Tree, index: int) -> np.ndarray:
        """Return a picture of one environment as a HostEnv does; on the host, in NumPy."""
        raise NotImplementedError(f"{type(self).__name__} draws no pictures")


def make_env(
    task: str | Task,
    num_envs: int = 1,
    seed: int = 0,
    processes: int = 1,
    render: bool = False,
    evaluating: bool = False,
    first: int = 0,
) -> Any:
    """Make a HostEnv or DeviceEnv for a task, e.g. `gymnasium/HalfCheetah-v4`.

    Args:
        task: A user's own Gymnasium id works; `gymnasium/module:EnvId-v0` imports the module.
        seed: Of host environments; device environments take keys.
        processes: Processes that share the environments' steps; 1: this process.
        render: Whether `env.render` will be called; only in this process.
        evaluating: Leave out what only training sees, where an engine has `training_rules`.
        first: Index of the first one, where other processes make those before it.

    Raises UsageError for unknown names, and MissingDependency for a missing engine.
    """
    task = Task.parse(task)
    if num_envs < 1:
        raise UsageError(f"num_envs is {num_envs}; it must be at least 1")
    if render:
        _require_renders(task)
    row = task.row
    registry.require_packages(f"engine {task.engine!r}", row.packages, row.extra)
    if task.is_function:
        return _make_by_function(task, num_envs, seed, processes)
    if row.kind == "device":
        require_devices()
    if render or processes == 1:
        options = _options(row, render, evaluating) | ({"first": first} if first else {})
        return registry.load(row.module).make(task.engine_name, num_envs, seed, **options)

    _require_shareable(task, num_envs, processes)
    from tiebreak.envs.subprocess_env import ProcessesEnv

    return ProcessesEnv(row.module, task.engine_name, num_envs, seed, processes)


def _options(row: registry.Engine, render: bool, evaluating: bool) -> dict[str, Any]:
    """Return the keywords that an engine's `make` takes beside name, number and seed."""
    options = {"render": True} if render else {}
    return options | ({"evaluating": evaluating} if row.training_rules else {})


def _make_by_function(task: Task, num_envs: int, seed: int, processes: int) -> Any:
    if task.factory is None:
        raise UsageError(
            f"task {str(task)!r} is a function of the Python program that trained on it: there, "
            "give it to tiebreak.train or tiebreak.evaluate as env=…; elsewhere register it with "
            "Gymnasium, and name it --task gymnasium/module:EnvId-v0"
        )
    if processes > 1:
        raise UsageError(
            f"env_processes is {processes}: environments of a function are stepped in its own "
            "process; register it with Gymnasium, and name it task='gymnasium/module:EnvId-v0'"
        )
    return registry.load(task.row.module).make_by_function(
        task.factory, task.engine_name, num_envs, seed
    )


def make_spec(task: str | Task) -> EnvSpec:
    """Return the shapes and bounds of a task; an environment is made and closed again."""
    env = make_env(task)
    if isinstance(env, HostEnv):
        env.close()
    return env.spec


def require_device_for(task: Task, device: str, one_agent: bool = True) -> None:
    """Raise UsageError for Warp's physics anywhere but on one NVIDIA GPU, for one agent."""
    if not task.physics.startswith("warp"):
        return
    kind, _, index = device.partition(":")
    if one_agent and kind in ("gpu", "cuda") and index != "all":
        return
    given = f"--device {device}" if one_agent else "a population of agents"
    elsewhere = str(task).replace("@warp+", "@").removesuffix("@warp")
    raise UsageError(
        f"task {str(task)!r} has physics for one NVIDIA GPU and one agent; asked for is {given}: "
        f"use --device gpu and one --seed, or {elsewhere!r}"
    )


def _require_renders(task: Task) -> None:
    if not task.row.renders:
        having = [name for name, row in registry.ENGINES.items() if row.renders]
        raise UsageError(
            f"engine {task.engine!r} draws no pictures ({', '.join(having)} do): if one of them "
            f"has the same task, name it, e.g. --task gymnasium/{task.name}"
        )


def _require_shareable(task: Task, num_envs: int, processes: int) -> None:
    if not task.row.shareable:
        shareable = [name for name, row in registry.ENGINES.items() if row.shareable]
        raise UsageError(
            f"env_processes is {processes}; engine {task.engine!r} shares out its environments "
            f"itself (valid: 1; more with {' or '.join(shareable)})"
        )
    if not 1 <= processes <= num_envs:
        raise UsageError(f"env_processes is {processes}; valid: 1 to num_envs, which is {num_envs}")
