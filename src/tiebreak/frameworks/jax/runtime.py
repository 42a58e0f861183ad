"""JAX under Linen, NNX and Equinox: how each mode executes the same functions.

Every mode is one function `transform(fn)` over `fn(state, *args) -> (state, out)`.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tiebreak.core.errors import MissingDevice
from tiebreak.core.off_policy import Explored, exploring_act
from tiebreak.core.types import Agent, Array, Build, State, Tree
from tiebreak.frameworks.jax import readings
from tiebreak.frameworks.jax.modes import TRANSFORMS
from tiebreak.frameworks.jax.noise import draw_tree
from tiebreak.frameworks.runtime import Runtime as Base
from tiebreak.frameworks.runtime import keeps_small_bits


class Runtime(Base):
    """JAX in one of the modes of linen, nnx or equinox."""

    name = "jax"

    def __init__(self, framework: str, mode: str, precision: str, device: str):
        super().__init__(framework, mode, precision, device)
        _configure(precision)
        self.native_device = _find_device(device)

    def build(self) -> Build:
        dtype = "float64" if self.precision == "float64" else "float32"
        networks = "bfloat16" if self.precision == "bfloat16" else ""
        return Build(dtype, self.device, network_dtype=networks)

    def agent(self, raw: Agent) -> Agent:
        pack, unpack = self._boundary()
        act = self.transform(lambda state, *args: (state, raw.act(state, *args)), keep=True)
        return Agent(
            init=lambda seed: pack(jax.device_put(raw.init(seed), self.native_device)),
            act=lambda *args: act(*args)[1],
            step=self.transform(raw.step),
            dump=lambda state: raw.dump(unpack(state)),
            load=lambda weights: pack(jax.device_put(raw.load(weights), self.native_device)),
        )

    def compile_act(self, raw: Agent) -> Callable[[State, Array, Array, int], Any]:
        def act(state, obs, noise, t):
            return state, raw.act(state, obs, noise[t])

        compiled = self.transform(act, keep=True)
        return lambda state, obs, noise, t: compiled(state, obs, noise, np.int32(t))[1]

    def compile_exploring_act(
        self, raw: Agent, scales: tuple[float, float]
    ) -> Callable[..., Explored]:
        act = exploring_act(raw.act, scales, jnp.where)

        def explore(state, obs, noise, t, exploring):
            return state, act(state, obs, jax.tree.map(lambda x: x[t], noise), exploring)

        compiled = self.transform(explore, keep=True)
        return lambda state, obs, noise, t, exploring: compiled(
            state, obs, noise, np.int32(t), exploring
        )[1]

    def compile_update(
        self, raw: Agent, sample: Callable
    ) -> Callable[[State, Tree, Tree, int], Any]:
        def learn(state, replay, draws, r):
            noise = jax.tree.map(lambda x: x[r], draws.step)
            return raw.step(state, sample(replay, draws.index[r]), noise)

        compiled = self.transform(learn)
        return lambda state, replay, draws, r: compiled(state, replay, draws, np.int32(r))

    def compile_replay_write(self, fn: Callable) -> Callable[[Tree, Tree], Tree]:
        return jax.jit(fn, donate_argnums=0)

    def transform(self, fn: Callable, keep: bool = False, donate: int = 0) -> Callable:
        """`fn(state, *args) -> (state, out)` in this mode; the state's buffers are reused.

        With `keep` the state is only read, and the same one is returned. `donate`: how many of
        `args`, from the first, may be reused as well.
        """
        if self.mode == "eager":
            return fn
        return TRANSFORMS[self.framework, self.mode](self, fn, keep, donate)

    def _boundary(self) -> tuple[Callable, Callable]:
        """How states look between calls in this mode: (pack, unpack)."""
        if self.mode not in ("flat", "split"):
            return (lambda state: state), (lambda state: state)
        return _flatten(self), lambda leaves: jax.tree.unflatten(self._treedef, leaves)

    def draw(self, draws: Tree, seed: int, index: int) -> Tree:
        return _draw_jit(draws, jax.random.key(seed, impl=self.prng), np.uint32(index))

    def asarray(self, array: Array) -> Array:
        return jax.device_put(jnp.asarray(array), self.native_device)

    def from_dlpack(self, array: Array) -> Array:
        return array if isinstance(array, jax.Array) else jnp.from_dlpack(array)

    def to_numpy(self, tree: Tree) -> Tree:
        if self.native_device.platform != "cpu":  # start all copies before waiting for the first
            tree = jax.device_get(tree)
        return jax.tree.map(np.asarray, tree)

    def stack(self, trees: list[Tree]) -> Tree:
        return _stack(trees)

    def sync(self, tree: Tree) -> None:
        jax.block_until_ready(tree)

    def compile_count(self) -> int:
        return readings.compile_count()

    def lock(self) -> AbstractContextManager[Any]:
        # Eager code traces: lax.scan its body in every call, Linen the shapes of parameters.
        return contextlib.nullcontext() if self.mode == "eager" else jax.no_tracing()

    def fallbacks(self) -> dict[str, int]:
        return readings.fallbacks(self.mode)

    def memory(self) -> dict[str, int]:
        return readings.memory(self.native_device)

    def settings(self) -> dict[str, Any]:
        return {
            **readings.settings(self.native_device),
            "prng": self.prng,
            "precision": self.precision,
            "matmul_keeps_2^-12": keeps_small_bits(self),
        }

    def set_threads(self, threads: int) -> None:
        """XLA sizes its pool by the CPU affinity at start-up; there is no call for it."""


def _configure(precision: str) -> None:
    readings.listen()
    jax.config.update("jax_enable_x64", precision == "float64")
    kind = "tensorfloat32" if precision == "tf32" else "highest"  # bfloat16 stays what it is
    jax.config.update("jax_default_matmul_precision", kind)


def _find_device(name: str) -> Any:
    kind, _, index = name.removesuffix(":all").partition(":")
    try:
        return jax.devices({"gpu": "cuda"}.get(kind, kind))[int(index or 0)]
    except (RuntimeError, ValueError, IndexError) as error:
        there = ", ".join(sorted({d.platform for d in jax.devices()} | {"cpu"}))
        raise MissingDevice(f"JAX sees no device {name!r} here (it sees: {there})") from error


@functools.partial(jax.jit, static_argnums=0)
def _draw_jit(draws: Tree, key: Array, index: Array) -> Tree:
    return draw_tree(draws, jax.random.fold_in(key, index))


@jax.jit
def _stack(trees: list[Tree]) -> Tree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _flatten(runtime: Runtime) -> Callable:
    def pack(state: State) -> list[Array]:
        leaves, runtime._treedef = jax.tree.flatten(state)
        return leaves

    return pack
