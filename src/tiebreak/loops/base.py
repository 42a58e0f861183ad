"""The interface of every loop, and how one is made for an algorithm, a framework and a task."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tiebreak import registry
from tiebreak.core.errors import UsageError
from tiebreak.core.noise import Draw
from tiebreak.core.off_policy import ActNoise
from tiebreak.core.prefixes import Arrays, add_prefix, strip_prefix
from tiebreak.core.ranks import ALONE, Ranks, require_parts
from tiebreak.core.types import Array, EnvSpec, Tree
from tiebreak.envs.base import DeviceEnv, make_env, make_spec, require_device_for
from tiebreak.envs.policy_observation import hide_privileged
from tiebreak.envs.task import Task
from tiebreak.loops.exploration import noise_scales

LOOPS = {
    ("host", "on_policy"): ("tiebreak.loops.host_on_policy", "HostOnPolicy"),
    ("host", "off_policy"): ("tiebreak.loops.host_off_policy", "HostOffPolicy"),
    ("fused", "on_policy"): ("tiebreak.loops.fused_on_policy", "FusedOnPolicy"),
    ("fused", "off_policy"): ("tiebreak.loops.fused_off_policy", "FusedOffPolicy"),
}
"""Kind of loop and of algorithm -> module and class. Fused loops import JAX: loaded when needed."""

KINDS = ("host", "fused")

CHUNK_STEPS = 10_000
"""Environment steps, approximately, of one `run` of a fused loop."""


class Progress(NamedTuple):
    """Result of one `run`; its leaves may still be under way on the device."""

    metrics: Any
    """The algorithm's Metrics: means over the run, or one of each round; None before learning
    starts."""
    episodes: Array
    """Episodes that ended in this run."""
    return_sum: Array
    """Sum of their undiscounted returns."""
    length_sum: Array
    """Sum of their lengths, in steps."""


class Draws(NamedTuple):
    """All randomness of one on-policy iteration; drawn from (seed, iteration) alone."""

    act: Any
    """[T, N, A]"""
    step: Any
    """The algorithm's Noise."""


class OffPolicyDraws(NamedTuple):
    """All randomness of an off-policy iteration of R rounds, T steps and U updates each."""

    act: Any
    """[R·T, N, …], or an ActNoise of such arrays."""
    index: Any
    """[R, U, B] int32 in [0, 2³¹): replay indices, before the remainder by the replay's size."""
    step: Any
    """The algorithm's Noise, with a leading axis R."""


class Loop(abc.ABC):
    """An agent, an environment, and counters of the work done."""

    kind: str
    runtime: Any
    agent: Any
    raw_agent: Any
    env: Any
    spec: Any
    config: Any
    state: Tree
    steps: int = 0
    """Environment steps so far, over all environments."""
    collected: int = 0
    """Environment steps taken by `collect`, which are in no replay."""
    updates: int = 0
    """Gradient steps so far."""
    iterations_per_run: int = 1
    memory: Any = None
    """memory_estimate.Memory of a fused loop."""
    agents: int = 1
    """Agents trained side by side (fused_population.py); all counters are of one of them."""
    ranks: Ranks = ALONE
    """The processes that run this loop together; counters are of all of them."""

    @property
    def is_warmup(self) -> bool:
        """Return whether the next run only fills the replay, as off-policy loops do first."""
        iterations = getattr(self.config, "warmup_iterations", 0)
        return self.steps - self.collected < iterations * self.config.iteration_steps

    @property
    @abc.abstractmethod
    def obs(self) -> Array:
        """Observations [N, *obs] from which the agent chooses its next actions."""

    @property
    def local_state(self) -> Tree:
        """Return the agent's state for `act` outside the loop, on this process's device."""
        return self.state

    @property
    def failures(self) -> Any:
        """Failures of the simulator so far, over all environments; reads the device.

        Of a population, a list; None where that is not known.
        """
        counts = self._failures()
        return None if counts is None else np.asarray(counts).sum(axis=-1).tolist()

    def _failures(self) -> Array | None:
        return self.env.failures()

    @abc.abstractmethod
    def run(self) -> Progress:
        """Collect and learn for `iterations_per_run` iterations.

        Synchronises with the device only where Python must see an action.
        """

    @abc.abstractmethod
    def collect(self) -> Tree:
        """Collect one rollout with the current policy, without learning, and return it."""

    def dump(self) -> Arrays:
        """Return everything but settings and seed that decides how later runs continue.

        Call between runs, in all ranks. Some arrays are views, to be stored before the next `run`.
        """
        counts = np.array([self.steps, self.collected, self.updates])
        return {"counts": counts, **add_prefix("agent", self.agent.dump(self.state))}

    def load(self, arrays: Mapping[str, np.ndarray]) -> bool:
        """Restore a state from `dump` into a freshly built loop with the same settings.

        Return False if environment state could not be restored: new episodes start then.
        """
        self.steps, self.collected, self.updates = arrays["counts"].tolist()
        self.state = self.agent.load(strip_prefix("agent", arrays))
        return True

    def close(self) -> None:
        """Release the environments."""
        if hasattr(self.env, "close"):
            self.env.close()


def on_policy_draws(algorithm: str, spec: EnvSpec, config: Any) -> Draws:
    """Return the randomness of one on-policy iteration, as a tree of `Draw`."""
    data = registry.data_module(algorithm)
    act = data.act_noise(spec, config.num_envs)
    return Draws(
        act=act._replace(shape=(config.num_steps, *act.shape)),
        step=data.step_noise(spec, config),
    )


def off_policy_draws(algorithm: str, spec: EnvSpec, config: Any) -> OffPolicyDraws:
    """Return the randomness of one off-policy iteration, as a tree of `Draw`."""
    data = registry.data_module(algorithm)
    rounds = config.num_rounds
    steps = rounds * config.num_steps

    act = data.act_noise(spec, config.num_envs)
    act = act._replace(shape=(steps, *act.shape))
    if noise_scales(algorithm, config):
        act = ActNoise(act, Draw("uniform", (steps, config.num_envs)))

    index = Draw("integers", (rounds, config.num_updates, config.batch_size))
    noise = data.step_noise(spec, config)
    noise = noise._make(draw._replace(shape=(rounds, *draw.shape)) for draw in noise)
    return OffPolicyDraws(act, index, noise)


def choose_kind(framework: str, task: str | Task, kind: str | None, mode: str | None = None) -> str:
    """Return `kind` if it is possible; for None, `fused` where possible and else `host`.

    Raises UsageError where `kind` is impossible or unknown.
    """
    task = Task.parse(task)
    eager = registry.training_mode(framework, mode) == "eager"
    can_fuse = registry.RUNTIMES[registry.library(framework, mode)].fused
    on_device = task.row.kind == "device"
    if kind is None:
        return "fused" if can_fuse and on_device and not eager else "host"
    if kind not in KINDS:
        raise UsageError(f"unknown loop {kind!r} (valid: {', '.join(KINDS)})")
    if kind == "host":
        return kind

    if not can_fuse:
        raise UsageError(
            f"loop 'fused' compiles environment and agent into one JAX program; {framework!r} "
            f"cannot run it (valid: {', '.join(registry.fused_frameworks())}, or --loop host)"
        )
    if not on_device:
        engines = [name for name, row in registry.ENGINES.items() if row.kind == "device"]
        raise UsageError(
            f"loop 'fused' needs an engine that runs on the device (valid: {', '.join(engines)}); "
            f"{task.engine!r} does not; use --loop host"
        )
    if eager:
        raise UsageError("loop 'fused' is one compiled program; mode 'eager' needs --loop host")
    return kind


def make_loop(
    algorithm: str,
    framework: str,
    task: str | Task,
    *,
    mode: str | None = None,
    loop: str | None = None,
    config: Any = None,
    precision: str = "float32",
    device: str = "cpu",
    seed: int = 0,
    chunk: int | None = None,
    ranks: Ranks = ALONE,
) -> Loop:
    """Make a loop that is ready to run; None is the default of each setting.

    `loop`: `host` or `fused` (where possible, the default). `chunk`: iterations per `run` of a
    fused loop, by default about CHUNK_STEPS environment steps. `ranks`: the processes that share
    out its environments, each of which makes the loop with the same arguments.
    """
    registry.algorithm(algorithm)
    task = Task.parse(task)
    kind = choose_kind(framework, task, loop, mode)
    _require_one_device(kind, device)
    runtime = registry.make_runtime(framework, mode, precision, device)
    if config is None:
        config = registry.reference_config(algorithm, make_spec(task), str(task))
    runtime.prng, runtime.ranks = config.prng, ranks
    env = hide_privileged(_make_env(task, kind, config, seed, ranks), algorithm)
    require_device_for(task, device)
    raw_agent = registry.make_raw_agent(algorithm, env.spec, config, runtime)

    loop_class = _loop_class(algorithm, kind)
    if kind == "host":
        env = _on_host(env, runtime, config, seed)
        return loop_class(algorithm, runtime, raw_agent, env, config, seed)
    chunk = chunk or max(1, CHUNK_STEPS // config.iteration_steps)
    made = loop_class(algorithm, runtime, raw_agent, env, config, seed, chunk)
    is_shared = device.endswith(":all") or ranks.count > 1
    return _on_all_devices(made, ranks) if is_shared else made


def _make_env(task: Task, kind: str, config: Any, seed: int, ranks: Ranks) -> Any:
    """Make all environments; of a host loop of several ranks this one's, which are equal to those
    of one process.
    """
    if kind == "fused" or ranks.count == 1:
        return make_env(task, config.num_envs, seed, config.env_processes)
    if task.row.kind != "host" or not task.row.shareable or config.env_processes > 1:
        shareable = [name for name, row in registry.ENGINES.items() if row.shareable]
        raise UsageError(
            f"processes can share out environments of {' or '.join(shareable)} in a host loop, "
            f"each stepping its own (env_processes=1); asked for is {str(task)!r} with "
            f"env_processes={config.env_processes}; JAX frameworks share out those of device "
            "engines, in a fused loop"
        )
    require_parts("num_envs", config.num_envs, ranks.count)
    count = config.num_envs // ranks.count
    return make_env(task, count, seed, first=ranks.rank * count)


def _require_one_device(kind: str, device: str) -> None:
    """Raise UsageError where a host loop is to use several devices, e.g. `gpu:all`."""
    if device.endswith(":all") and kind != "fused":
        raise UsageError(
            f"device {device!r} shares out environments that a fused loop simulates; here a host "
            f"loop steps them: name one device, e.g. --device {device.removesuffix(':all')}"
        )


def _on_all_devices(loop: Any, ranks: Ranks) -> Loop:
    """Distribute the environments of a fused loop over all devices of its kind, of all ranks."""
    from tiebreak.loops.env_sharding import share_environments

    share_environments(loop, ranks)
    return loop


def _on_host(env: Any, runtime: Any, config: Any, seed: int) -> Any:
    """Return an environment that Python can step: a device environment behind the bridge."""
    if not isinstance(env, DeviceEnv):
        return env
    from tiebreak.envs.bridge import BridgeEnv

    steps_per_iteration = config.iteration_steps // config.num_envs
    return BridgeEnv(env, runtime, seed, steps_per_iteration, config.prng)


def _loop_class(algorithm: str, kind: str) -> Any:
    policy = "off_policy" if registry.algorithm(algorithm).off_policy else "on_policy"
    module, name = LOOPS[kind, policy]
    return getattr(registry.load(module), name)
