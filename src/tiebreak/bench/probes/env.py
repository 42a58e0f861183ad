"""The probe `env`: an environment alone under random actions, the ceiling of every framework."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.bench.probes.base import Probe
from tiebreak.core.seeding import derive
from tiebreak.core.types import EnvSpec

STEPS = 64
"""Environment steps of each environment in one call."""


class Environment:
    """A subject without an agent: NumPy only on host engines, JAX on device engines."""

    def __init__(self, job: Mapping[str, Any]):
        self.cell, self.seed = job["cells"][0], job["seed"]
        self.on_device = self.cell["framework"] == "jax"
        self.steps = 0

    def load(self) -> None:
        """Import the engine."""
        registry.load(registry.ENGINES[self.cell["task"].partition("/")[0]].module)

    def build(self) -> None:
        """Make the environments."""
        from tiebreak.envs.base import make_env

        processes = self.cell["config"].get("env_processes", 1)
        self.env = make_env(self.cell["task"], self.cell["num_envs"], self.seed, processes)
        shape, seed = (STEPS, self.cell["num_envs"]), derive(self.seed, "actions")
        self.actions = _actions(self.env.spec, shape, seed)

    def probe(self, name: str) -> Probe:
        """The probe `env`."""
        call = self._device() if self.on_device else self._host()
        steps = STEPS * self.cell["num_envs"]

        def counting() -> Any:
            self.steps += steps
            return call()

        return Probe(
            "env steps",
            steps,
            counting,
            expected={"env_steps": steps},
            counted=lambda: {"env_steps": self.steps},
            numbers=lambda reward: {"reward": float(np.sum(np.asarray(reward)))},
            inputs=lambda: [self.actions],
        )

    def sync(self, tree: Any) -> None:
        """Wait for JAX; NumPy has finished when it returns."""
        if self.on_device:
            import jax

            jax.block_until_ready(tree)

    def compile_count(self) -> int:
        """Programs compiled by the device engine so far."""
        return self._compiled._cache_size() if self.on_device else 0

    def lock(self) -> AbstractContextManager[Any]:
        """JAX must not retrace inside, if it is there."""
        return lock() if self.on_device else contextlib.nullcontext()

    def settings(self) -> dict[str, Any]:
        """There is nothing to read back but what the worker adds."""
        return {}

    def memory(self) -> dict[str, int]:
        """Nothing beyond what the system says."""
        return {}

    def close(self) -> None:
        """Release the environments."""
        if not self.on_device:
            self.env.close()

    def _host(self) -> Any:
        env = self.env
        actions = self.actions
        env.reset()

        def call() -> list[np.ndarray]:
            return [np.array(env.step(action).reward) for action in actions]

        return call

    def _device(self) -> Any:
        import jax

        from tiebreak.envs.bridge import find_device

        env, device = self.env, find_device(self.cell["device"])

        @jax.jit
        def steps(state: Any, key: Any, actions: Any) -> Any:
            key, drawn = jax.random.split(key)
            body = lambda s, x: (lambda s, out: (s, out.reward))(*env.step(s, *x))  # noqa: E731
            state, rewards = jax.lax.scan(body, state, (actions, env.draw(drawn, STEPS)))
            return state, key, rewards

        key = jax.device_put(jax.random.key(self.seed), device)
        # One program, as simulators' resets are long; its device is said, as it may use no key.
        state = jax.device_put(jax.jit(env.reset)(key)[0], device)
        carry = [state, key]
        actions = jax.device_put(self.actions, device)
        self._compiled: Any = steps

        def call() -> Any:
            *carry[:], rewards = steps(*carry, actions)
            return rewards

        return call


def lock() -> AbstractContextManager[Any]:
    """Tracing in JAX is an error inside."""
    import jax

    return jax.no_tracing()


def _actions(spec: EnvSpec, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Uniform random actions, drawn beforehand: drawing is not what is measured."""
    rng = np.random.default_rng(seed)
    if spec.discrete:
        return rng.integers(spec.action_size, size=shape, dtype=np.int32)
    low, high = np.array(spec.action_low), np.array(spec.action_high)
    return rng.uniform(low, high, (*shape, spec.action_size)).astype(np.float32)
