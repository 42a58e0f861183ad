"""A device engine stepped by torch, TensorFlow or a host loop in JAX, one compiled call per step.

Arrays cross by DLPack, without a copy. The five results are exchanged one by one: packing them
into one matrix saves torch 3 µs of 18, and costs TensorFlow 100, where slicing is expensive.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tiebreak.core.errors import MissingDevice
from tiebreak.core.prefixes import Arrays, add_prefix, strip_prefix
from tiebreak.core.types import Array, EnvStep, Tree
from tiebreak.envs.base import DeviceEnv, HostEnv
from tiebreak.envs.jax_state import chunk_key, dump_tree, env_keys, load_tree


class BridgeEnv(HostEnv):
    """Steps `device_env` on the runtime's device; takes and returns the runtime's own arrays.

    Randomness is drawn for `chunk_steps` steps at a time, from the keys that a fused loop with
    chunks of the same length uses: both see the same episodes.
    """

    def __init__(
        self, device_env: DeviceEnv, runtime: Any, seed: int, chunk_steps: int,
        impl: str | None = None,
    ):  # fmt: skip
        self.spec, self.num_envs = device_env.spec, device_env.num_envs
        self._device_env = device_env
        self._runtime, self._chunk_steps = runtime, chunk_steps
        self._device = device = find_device(runtime.device)
        # Keys that are committed to a device take everything computed from them there.
        self._keys = jax.device_put(env_keys(seed, impl), device)
        self._reset = jax.jit(functools.partial(_reset, device_env))
        self._draw = jax.jit(lambda key, index: device_env.draw(chunk_key(key, index), chunk_steps))
        self._step = jax.jit(functools.partial(_step, device_env, chunk_steps), donate_argnums=0)
        self._carry: Tree = None
        self._noise: Tree = None
        self._steps = 0

    def reset(self) -> Array:
        """Start again from the seed; the first observations are the same every time."""
        # A reset that uses no key is committed to no device: without this, step would compile
        # twice.
        self._carry, obs = jax.device_put(self._reset(self._keys[0]), self._device)
        self._steps = 0
        return self._runtime.from_dlpack(obs)

    def step(self, action: Array) -> EnvStep:
        """Step in one compiled call; `action` may be the runtime's, JAX's or NumPy's."""
        chunk, row = divmod(self._steps, self._chunk_steps)
        if row == 0:
            self._noise = self._draw(self._keys[1], np.uint32(chunk))
        self._steps += 1
        self._carry, out = self._step(self._carry, self._noise, self._to_jax(action))
        return EnvStep(*(self._runtime.from_dlpack(leaf) for leaf in out))

    def snapshot(self) -> Arrays:
        """Return the environments' state; their draws follow from the number of steps."""
        return {"steps": np.array(self._steps), **add_prefix("state", dump_tree(self._carry))}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Continue from a `snapshot`; the noise of a chunk under way is drawn again."""
        self._carry = load_tree(self._carry, strip_prefix("state", arrays))
        self._steps = int(arrays["steps"])
        chunk, row = divmod(self._steps, self._chunk_steps)
        if row:
            self._noise = self._draw(self._keys[1], np.uint32(chunk))

    def failures(self) -> Array | None:
        return self._device_env.failures(self._carry[0])

    @property
    def steps_per_s(self) -> float:
        return self._device_env.steps_per_s

    def render(self, index: int) -> np.ndarray:
        return self._device_env.render(self._carry[0], index)

    def _to_jax(self, action: Array) -> Array:
        if isinstance(action, jax.Array):
            return action
        if self._device.platform == "cpu":
            # A view over DLPack that jit takes as it is: 3 µs, jax.dlpack.from_dlpack 27.
            return np.from_dlpack(action)
        return jax.dlpack.from_dlpack(action)


def _reset(env: DeviceEnv, key: Array) -> tuple[Tree, Array]:
    state, obs = env.reset(key)
    return (state, jnp.zeros((), jnp.int32)), obs


def _step(
    env: DeviceEnv, chunk_steps: int, carry: Tree, noise: Tree, action: Array
) -> tuple[Tree, EnvStep]:
    """Step with row t of the chunk's noise; t is counted on the device."""
    state, t = carry
    row = jax.tree.map(lambda x: x[t], noise)
    state, out = env.step(state, jnp.asarray(action), row)
    return (state, (t + 1) % chunk_steps), out


def find_device(name: str) -> Any:
    """Return the JAX device for a runtime's device name: `cpu`, `cuda`, `cuda:1`, `gpu`.

    The first one for `gpu:all`, as policies are evaluated on one. Raises MissingDevice.
    """
    kind, _, index = name.lower().removesuffix(":all").partition(":")
    try:
        return jax.local_devices(backend="cpu" if kind == "cpu" else "gpu")[int(index or 0)]
    except (RuntimeError, IndexError) as error:
        raise MissingDevice(
            f"device engines are JAX programs, and JAX sees no device {name!r} here: install JAX "
            "for it (pip install 'jax[cuda12]') or use --device cpu"
        ) from error
