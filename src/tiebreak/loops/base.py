"""What every loop offers, and how one is made for an algorithm, a framework and a task."""

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
from tiebreak.core.types import Array, Tree
from tiebreak.envs.base import DeviceEnv, make_env, parse_task, require_place
from tiebreak.envs.policy_observation import make_env_for
from tiebreak.loops.exploration import noise_scales

KINDS = ("host", "fused")


class Progress(NamedTuple):
    """What one `run` tells; leaves may still be under way on the device."""

    metrics: Any
    """The algorithm's Metrics, means over the run or one of each of its parts; None where nothing
    was learnt yet."""
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
    """[R·T, N, …], or an ActNoise of such"""
    index: Any
    """[R, U, B] int32 in [0, 2³¹): where the replay is read"""
    step: Any
    """The algorithm's Noise, with a leading axis R."""


class Loop(abc.ABC):
    """An agent, an environment, and the counters that prove the work."""

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
    """Those of them that `collect` took and that are in no replay."""
    updates: int = 0
    """Gradient steps so far."""
    iterations_per_run: int = 1
    memory: Any = None
    """fused_memory.Memory of a fused loop"""
    agents: int = 1
    """Trained side by side (fused_population.py): all counters are of one of them."""

    @property
    def is_warmup(self) -> bool:
        """Whether the next run learns nothing yet: off-policy loops first fill the replay."""
        iterations = getattr(self.config, "warmup_iterations", 0)
        return self.steps - self.collected < iterations * self.config.iteration_steps

    @property
    @abc.abstractmethod
    def obs(self) -> Array:
        """[N, *obs]: what the agent will see next."""

    @property
    def failures(self) -> Any:
        """How often the simulator has failed so far, in all environments together (of a population,
        a list); None where that is not known. Reads the device.
        """
        counts = self._failures()
        return None if counts is None else np.asarray(counts).sum(axis=-1).tolist()

    def _failures(self) -> Array | None:
        return self.env.failures()

    @abc.abstractmethod
    def run(self) -> Progress:
        """Collect and learn, `iterations_per_run` times. Synchronises only where Python must
        see an action.
        """

    @abc.abstractmethod
    def collect(self) -> Tree:
        """Interact only: one rollout with the current policy."""

    def dump(self) -> Arrays:
        """All that decides how the runs go on, settings and seed aside: between two of them.

        Some are views, to be stored before the next `run`.
        """
        counts = np.array([self.steps, self.collected, self.updates])
        return {"counts": counts, **add_prefix("agent", self.agent.dump(self.state))}

    def load(self, arrays: Mapping[str, np.ndarray]) -> bool:
        """What `dump` gave, into a loop made alike that has not run. False where the engine takes
        no snapshots: there new episodes start.
        """
        self.steps, self.collected, self.updates = arrays["counts"].tolist()
        self.state = self.agent.load(strip_prefix("agent", arrays))
        return True

    def close(self) -> None:
        """Release the environments."""
        if hasattr(self.env, "close"):
            self.env.close()


def draws_of(algorithm: str, spec: Any, config: Any) -> Draws:
    """The randomness of one iteration, as a tree of `Draw`."""
    data = registry.data_module(algorithm)
    act = data.act_noise(spec, config.num_envs)
    return Draws(act._replace(shape=(config.num_steps, *act.shape)), data.step_noise(spec, config))


def off_policy_draws_of(algorithm: str, spec: Any, config: Any) -> OffPolicyDraws:
    """The randomness of one iteration, as a tree of `Draw`."""
    data, rounds = registry.data_module(algorithm), config.num_rounds
    act, steps = data.act_noise(spec, config.num_envs), rounds * config.num_steps
    act = act._replace(shape=(steps, *act.shape))
    if noise_scales(algorithm, config):
        act = ActNoise(act, Draw("uniform", (steps, config.num_envs)))
    index = Draw("integers", (rounds, config.num_updates, config.batch_size))
    step = data.step_noise(spec, config)
    step = step._make(draw._replace(shape=(rounds, *draw.shape)) for draw in step)
    return OffPolicyDraws(act, index, step)


def choose_kind(framework: str, task: str, kind: str | None, mode: str | None = None) -> str:
    """`fused` where it can be, unless asked otherwise; UsageError where it cannot."""
    engine, _ = parse_task(task)
    eager = registry.mode(framework, mode) == "eager"
    jax_framework = registry.framework(framework).runtime == "jax"
    device_engine = registry.ENGINES[engine].kind == "device"
    if kind is None:
        return "fused" if jax_framework and device_engine and not eager else "host"
    if kind not in KINDS:
        raise UsageError(f"unknown loop {kind!r} (valid: {', '.join(KINDS)})")
    if kind == "fused" and not jax_framework:
        jax_ones = [k for k, row in registry.FRAMEWORKS.items() if row.runtime == "jax"]
        raise UsageError(
            f"loop 'fused' compiles environment and agent into one JAX program; {framework!r} "
            f"cannot run it (valid: {', '.join(jax_ones)}, or --loop host)"
        )
    if kind == "fused" and not device_engine:
        engines = [k for k, row in registry.ENGINES.items() if row.kind == "device"]
        raise UsageError(
            f"loop 'fused' needs an engine that runs on the device (valid: {', '.join(engines)}); "
            f"{engine!r} does not; use --loop host"
        )
    if kind == "fused" and eager:
        raise UsageError("loop 'fused' is one compiled program; mode 'eager' needs --loop host")
    return kind


def make_loop(
    algorithm: str,
    framework: str,
    task: str,
    *,
    mode: str | None = None,
    loop: str | None = None,
    config: Any = None,
    precision: str = "float32",
    device: str = "cpu",
    seed: int = 0,
    chunk: int | None = None,
) -> Loop:
    """A loop ready to run. `loop=None` is `fused` where possible, else `host`.

    `chunk`: iterations per `run` of a fused loop (default: about 10k environment steps).
    """
    registry.algorithm(algorithm)
    kind = choose_kind(framework, task, loop, mode)
    shared = _shared(kind, device)
    runtime = registry.make_runtime(framework, mode, precision, device)
    if config is None:
        config = registry.reference_config(algorithm, make_env(task).spec, task)
    runtime.prng = config.prng
    env = make_env_for(algorithm, task, config.num_envs, seed, config.env_processes)
    require_place(task, device)
    raw = registry.make_raw_agent(algorithm, env.spec, config, runtime)
    if kind == "fused":
        chunk = chunk or max(1, 10_000 // config.iteration_steps)
        made = _class(algorithm, kind)(algorithm, runtime, raw, env, config, seed, chunk)
        if shared:
            registry.load("tiebreak.loops.env_sharding").share_environments(made)
        return made
    if isinstance(env, DeviceEnv):
        from tiebreak.envs.bridge import BridgeEnv

        env = BridgeEnv(env, runtime, seed, config.iteration_steps // config.num_envs, config.prng)
    return _class(algorithm, kind)(algorithm, runtime, raw, env, config, seed)


def _shared(kind: str, device: str) -> bool:
    """Whether environments are shared out over all devices; UsageError where that cannot be."""
    if device.endswith(":all") and kind != "fused":
        raise UsageError(
            f"device {device!r} shares out environments that a fused loop simulates; here a host "
            f"loop steps them: name one device, e.g. --device {device.removesuffix(':all')}"
        )
    return device.endswith(":all")


def _class(algorithm: str, kind: str) -> Any:
    """The loop for an algorithm: `HostOnPolicy`, `FusedOffPolicy`, …"""
    policy = "Off" if registry.algorithm(algorithm).off_policy else "On"
    module = registry.load(f"tiebreak.loops.{kind}_{policy.lower()}_policy")
    return getattr(module, f"{kind.capitalize()}{policy}Policy")
