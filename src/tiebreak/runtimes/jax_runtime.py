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

from tiebreak.core.errors import UsageError
from tiebreak.core.types import Agent, Array, Build, State, Tree
from tiebreak.runtimes import jax_readings as readings
from tiebreak.runtimes.base import Runtime as Base
from tiebreak.runtimes.base import keeps_small_bits
from tiebreak.runtimes.jax_noise import draw_tree


class Runtime(Base):
    """JAX in one of the modes of linen, nnx or equinox."""

    name = "jax"

    def __init__(self, framework: str, mode: str, precision: str, device: str):
        super().__init__(framework, mode, precision, device)
        _configure(precision)
        self._device = _find_device(device)
        self.prng = "threefry2x32"

    def build(self) -> Build:
        return Build("float64" if self.precision == "float64" else "float32", self.device)

    def agent(self, raw: Agent) -> Agent:
        pack, unpack = self._boundary()
        act = self.transform(lambda state, *args: (state, raw.act(state, *args)), keep=True)
        return Agent(
            init=lambda seed: pack(jax.device_put(raw.init(seed), self._device)),
            act=lambda *args: act(*args)[1],
            step=self.transform(raw.step),
            dump=lambda state: raw.dump(unpack(state)),
            load=lambda weights: pack(jax.device_put(raw.load(weights), self._device)),
        )

    def actor(self, raw: Agent) -> Callable[[State, Array, Array, int], Any]:
        def act(state, obs, noise, t):
            return state, raw.act(state, obs, noise[t])

        compiled = self.transform(act, keep=True)
        return lambda state, obs, noise, t: compiled(state, obs, noise, np.int32(t))[1]

    def learner(self, raw: Agent, sample: Callable) -> Callable[[State, Tree, Tree, int], Any]:
        def learn(state, replay, draws, r):
            noise = jax.tree.map(lambda x: x[r], draws.step)
            return raw.step(state, sample(replay, draws.index[r]), noise)

        compiled = self.transform(learn)
        return lambda state, replay, draws, r: compiled(state, replay, draws, np.int32(r))

    def writer(self, fn: Callable) -> Callable[[Tree, Tree], Tree]:
        return jax.jit(fn, donate_argnums=0)

    def transform(self, fn: Callable, keep: bool = False, donate: int = 0) -> Callable:
        """`fn(state, *args) -> (state, out)` in this mode; the state's buffers are reused.

        With `keep` the state is only read, and the same one is returned. `donate`: how many of
        `args`, from the first, may be reused as well.
        """
        if self.mode == "eager":
            return fn
        return _TRANSFORMS[self.framework, self.mode](self, fn, keep, donate)

    def _boundary(self) -> tuple[Callable, Callable]:
        """How states look between calls in this mode: (pack, unpack)."""
        if self.mode not in ("flat", "split"):
            return (lambda state: state), (lambda state: state)
        return _flatten(self), lambda leaves: jax.tree.unflatten(self._treedef, leaves)

    def draw(self, draws: Tree, seed: int, index: int) -> Tree:
        return _draw_jit(draws, jax.random.key(seed, impl=self.prng), np.uint32(index))

    def asarray(self, array: Array) -> Array:
        return jax.device_put(jnp.asarray(array), self._device)

    def from_dlpack(self, array: Array) -> Array:
        return array if isinstance(array, jax.Array) else jnp.from_dlpack(array)

    def to_numpy(self, tree: Tree) -> Tree:
        return jax.tree.map(np.asarray, jax.device_get(tree))

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
        return readings.memory(self._device)

    def settings(self) -> dict[str, Any]:
        return {
            **readings.settings(self._device),
            "prng": self.prng,
            "precision": self.precision,
            "matmul_keeps_2^-12": keeps_small_bits(self),
        }

    def set_threads(self, threads: int) -> None:
        """XLA sizes its pool by the CPU affinity at start-up; there is no call for it."""


def _configure(precision: str) -> None:
    readings.listen()
    if precision == "bfloat16":
        raise UsageError("precision 'bfloat16' is not there yet (valid: float32, tf32)")
    jax.config.update("jax_enable_x64", precision == "float64")
    kind = {"float32": "highest", "float64": "highest", "tf32": "tensorfloat32"}[precision]
    jax.config.update("jax_default_matmul_precision", kind)


def _find_device(name: str) -> Any:
    kind, _, index = name.partition(":")
    try:
        return jax.devices({"gpu": "cuda"}.get(kind, kind))[int(index or 0)]
    except (RuntimeError, ValueError, IndexError) as error:
        there = ", ".join(sorted({d.platform for d in jax.devices()} | {"cpu"}))
        raise UsageError(f"JAX sees no device {name!r} here (it sees: {there})") from error


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


def _jit(runtime: Runtime, fn: Callable, keep: bool, donate: int) -> Callable:
    """Linen: the state is a plain tree, jax.jit says all."""
    given = _donated(keep, donate)
    return _returning(jax.jit(_without(fn) if keep else fn, donate_argnums=given), keep)


def _donated(keep: bool, donate: int) -> tuple[int, ...]:
    return tuple(range(1 if keep else 0, 1 + donate))


def _flat(runtime: Runtime, fn: Callable, keep: bool, donate: int) -> Callable:
    """NNX `split`, Equinox `flat`: leaves cross the boundary, the structure is closed over."""

    def inner(leaves, *args):
        state, out = fn(jax.tree.unflatten(runtime._treedef, leaves), *args)
        return out if keep else (jax.tree.leaves(state), out)

    return _returning(jax.jit(inner, donate_argnums=_donated(keep, donate)), keep)


def _filter_jit(runtime: Runtime, fn: Callable, keep: bool, donate: int) -> Callable:
    """Equinox's own jit: arrays are traced, everything else is static."""
    import equinox as eqx

    if keep:
        return _returning(eqx.filter_jit(_without(fn)), True)

    # Everything but the first argument is donated: what is only read comes first, as one.
    def inner(rest, state, *given):
        return fn(state, *given, *rest)

    compiled = eqx.filter_jit(inner, donate="all-except-first")
    return lambda state, *args: compiled(args[donate:], state, *args[:donate])


def _nnx_jit(runtime: Runtime, fn: Callable, keep: bool, donate: int) -> Callable:
    """NNX's own jit: the graph of modules is updated in place."""
    from flax import nnx

    compiled = nnx.jit(_in_place(fn), donate_argnums=_donated(keep, donate))
    return lambda state, *args: (state, compiled(state, *args))


def _nnx_cached(runtime: Runtime, fn: Callable, keep: bool, donate: int) -> Callable:
    """`nnx.cached_partial`: the traversal of the module graph is paid once per state object."""
    from flax import nnx

    compiled, bound = nnx.jit(_in_place(fn), donate_argnums=_donated(keep, donate)), []

    def call(state, *args):
        if not bound or bound[0] is not state:
            bound[:] = [state, nnx.cached_partial(compiled, state)]
        return state, bound[1](*args)

    return call


def _in_place(fn: Callable) -> Callable:
    """`fn` with its outcome written into the modules that came in, as nnx.jit wants it."""
    from flax import nnx

    def inner(state, *args):
        new, out = fn(state, *args)
        if new is not state:  # a scan hands back copies
            nnx.update(state, nnx.state(new))
        return out

    return inner


def _without(fn: Callable) -> Callable:
    return lambda state, *args: fn(state, *args)[1]


def _returning(compiled: Callable, keep: bool) -> Callable:
    if not keep:
        return compiled
    return lambda state, *args: (state, compiled(state, *args))


_TRANSFORMS = {
    ("linen", "jit"): _jit,
    ("nnx", "jit"): _nnx_jit,
    ("nnx", "cached"): _nnx_cached,
    ("nnx", "split"): _flat,
    ("equinox", "jit"): _filter_jit,
    ("equinox", "flat"): _flat,
}
