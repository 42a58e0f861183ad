"""Probe of an environment alone under random actions: the ceiling of every framework."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.bench.probes.base import Probe
from tiebreak.bench.suite.plan import Job
from tiebreak.core.seeding import derive
from tiebreak.core.types import EnvSpec

STEPS = 64
"""Steps of each environment in one call."""


class EnvSubject:
    """Environments without an agent: NumPy on host engines, JAX on device engines."""

    def __init__(self, job: Job):
        self.cell, self.seed = job.cells[0], job.seed
        self.on_device = self.cell.framework == "jax"
        self.steps = 0

    def load(self) -> None:
        """Import the engine."""
        registry.load(self.cell.engine.module)

    def build(self) -> None:
        """Make the environments and draw the actions."""
        from tiebreak.envs.base import make_env

        cell = self.cell
        processes = cell.config.get("env_processes", 1)
        self.env = make_env(cell.task, cell.num_envs, self.seed, processes)
        self.actions = _actions(
            self.env.spec,
            shape=(STEPS, cell.num_envs),
            seed=derive(self.seed, "actions"),
        )

    def probe(self, name: str) -> Probe:
        """Build the probe `env`."""
        return env(self)

    def sync(self, tree: Any) -> None:
        """Wait for JAX; NumPy is synchronous."""
        if self.on_device:
            import jax

            jax.block_until_ready(tree)

    def compile_count(self) -> int:
        """Return the number of programs that the device engine compiled so far."""
        return self._compiled._cache_size() if self.on_device else 0

    def lock(self) -> AbstractContextManager[Any]:
        """Make retracing in JAX an error inside."""
        return no_tracing() if self.on_device else contextlib.nullcontext()

    def settings(self) -> dict[str, Any]:
        """Return nothing: there is no library whose settings matter."""
        return {}

    def memory(self) -> dict[str, int]:
        """Return nothing: only the system counts memory here."""
        return {}

    def close(self) -> None:
        """Release the environments."""
        if not self.on_device:
            self.env.close()

    def host_call(self) -> Callable[[], Any]:
        """Return a call that steps NumPy environments."""
        env = self.env
        actions = self.actions
        env.reset()

        def call() -> list[np.ndarray]:
            return [np.array(env.step(action).reward) for action in actions]

        return call

    def device_call(self) -> Callable[[], Any]:
        """Return a call that steps JAX environments in one program."""
        import jax

        from tiebreak.envs.bridge import find_device

        env, device = self.env, find_device(self.cell.device)

        @jax.jit
        def steps(state: Any, key: Any, actions: Any) -> Any:
            key, drawn = jax.random.split(key)
            body = lambda s, x: (lambda s, out: (s, out.reward))(*env.step(s, *x))  # noqa: E731
            state, rewards = jax.lax.scan(body, state, (actions, env.draw(drawn, STEPS)))
            return state, key, rewards

        key = jax.device_put(jax.random.key(self.seed), device)
        # One program, as the resets of simulators are long. Its output is placed explicitly, as a
        # reset may not use its key.
        state = jax.device_put(jax.jit(env.reset)(key)[0], device)
        carry = [state, key]
        actions = jax.device_put(self.actions, device)
        self._compiled: Any = steps

        def call() -> Any:
            *carry[:], rewards = steps(*carry, actions)
            return rewards

        return call


def env(subject: EnvSubject) -> Probe:
    """Build the probe: STEPS steps of all environments in a call."""
    call = subject.device_call() if subject.on_device else subject.host_call()
    steps = STEPS * subject.cell.num_envs

    def counted_call() -> Any:
        subject.steps += steps
        return call()

    return Probe(
        unit="env steps",
        units_per_call=steps,
        call=counted_call,
        expected={"env_steps": steps},
        counted=lambda: {"env_steps": subject.steps},
        numbers=lambda reward: {"reward": float(np.sum(np.asarray(reward)))},
        inputs=lambda: [subject.actions],
    )


def no_tracing() -> AbstractContextManager[Any]:
    """Make tracing in JAX an error inside."""
    import jax

    return jax.no_tracing()


def _actions(spec: EnvSpec, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Draw uniform random actions beforehand, as drawing is not measured."""
    rng = np.random.default_rng(seed)
    if spec.discrete:
        size = (*shape, *spec.action_shape)
        return rng.integers(spec.nvec or spec.action_size, size=size, dtype=np.int32)
    low, high = np.array(spec.action_low), np.array(spec.action_high)
    return rng.uniform(low, high, (*shape, spec.action_size)).astype(np.float32)
