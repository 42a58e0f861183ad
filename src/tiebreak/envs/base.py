"""The two kinds of vectorised environment, and how a task's name becomes one."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.prefixes import Arrays
from tiebreak.core.types import Array, EnvSpec, EnvStep, Tree


class HostEnv(abc.ABC):
    """N environments driven from Python; arrays are NumPy, or a runtime's own behind the bridge.

    Automatic reset within the same step: `obs` starts the next episode, `final_obs` ends the last.
    """

    spec: EnvSpec
    num_envs: int

    @abc.abstractmethod
    def reset(self) -> Array:
        """Start every environment from the seed given at construction: obs [N, *obs]."""

    @abc.abstractmethod
    def step(self, action: Array) -> EnvStep:
        """One step of every environment; action [N] int or [N, A] within the bounds."""

    def snapshot(self) -> Arrays | None:
        """All that decides how the environments go on; None where the engine cannot tell."""
        return None

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on where `snapshot` was taken, of the same task and number, once `reset`."""
        raise NotImplementedError(f"{type(self).__name__} takes no snapshots")

    def failures(self) -> Array | None:
        """[N]: how often each environment's simulator has failed; None where that is not known."""
        return None

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
        """Key -> (state, obs [N, *obs])."""

    @abc.abstractmethod
    def draw(self, key: Array, num_steps: int) -> Tree:
        """Everything random that `num_steps` steps can consume; leaves are [num_steps, N, …]."""

    @abc.abstractmethod
    def step(self, state: Tree, action: Array, noise: Tree) -> tuple[Tree, EnvStep]:
        """One step; `noise` is one row of `draw`."""

    def failures(self, state: Tree) -> Array | None:
        """[N]: how often each environment's simulator has failed; None where that is not known."""
        return None


def parse_task(task: str) -> tuple[str, str]:
    """`engine/name` -> (engine, name); raises UsageError with the nearest valid engine."""
    engine, slash, name = task.partition("/")
    if not slash or not name:
        raise UsageError(f"a task is written engine/name, e.g. gymnax/CartPole-v1; got {task!r}")
    if engine not in registry.ENGINES:
        raise unknown("engine", engine, registry.ENGINES)
    return engine, name


def make_env(task: str, num_envs: int = 1, seed: int = 0, processes: int = 1) -> Any:
    """A HostEnv or DeviceEnv for `engine/name`, e.g. `gymnasium/HalfCheetah-v4`.

    A user's own Gymnasium id works, also as `gymnasium/module:EnvId-v0`, which imports the module.
    `processes` share the environments' steps; 1: this process.
    Raises UsageError for unknown names and MissingDependency for a missing engine.
    """
    engine, name = parse_task(task)
    if num_envs < 1:
        raise UsageError(f"num_envs is {num_envs}; it must be at least 1")
    row = registry.ENGINES[engine]
    registry.require_packages(f"engine {engine!r}", row.packages, row.extra)
    if processes == 1:
        return registry.load(row.module).make(name, num_envs, seed)
    _check_processes(engine, num_envs, processes)
    shared = registry.load("tiebreak.envs.subprocess_env").ProcessesEnv
    return shared(row.module, name, num_envs, seed, processes)


def require_place(task: str, device: str, one_agent: bool = True) -> None:
    """Raise UsageError for Warp's physics anywhere but on one NVIDIA GPU, for one agent."""
    kind, _, which = device.partition(":")
    if not task.endswith("@warp") or (one_agent and kind in ("gpu", "cuda") and which != "all"):
        return
    given = f"--device {device}" if one_agent else "a population of agents"
    raise UsageError(
        f"task {task!r} has physics for one NVIDIA GPU and one agent; asked for is {given}: use "
        f"--device gpu and one --seed, or {task.removesuffix('@warp')!r}"
    )


def _check_processes(engine: str, num_envs: int, processes: int) -> None:
    if not registry.ENGINES[engine].shareable:
        shareable = [name for name, row in registry.ENGINES.items() if row.shareable]
        raise UsageError(
            f"env_processes is {processes}; engine {engine!r} shares out its environments itself "
            f"(valid: 1; more with {' or '.join(shareable)})"
        )
    if not 1 <= processes <= num_envs:
        raise UsageError(f"env_processes is {processes}; valid: 1 to num_envs, which is {num_envs}")
