"""The runtime of the frameworks on JAX, in one of their modes.

`modes.py` has a function for each mode, which compiles `fn(state, *args) -> (state, out)`. Below
the runtime: random draws, and what JAX reports about compilations, memory and settings.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.backend import clear_backends

from tiebreak.core.errors import MissingDevice
from tiebreak.core.jax_devices import require_devices, to_host
from tiebreak.core.noise import Draw
from tiebreak.core.off_policy import Explored, exploring_act
from tiebreak.core.types import Agent, Array, Build, State, Tree
from tiebreak.frameworks.jax.modes import TRANSFORMS
from tiebreak.frameworks.runtime import Runtime as Base
from tiebreak.frameworks.runtime import count_threads, keeps_small_bits

POOL = "tf_XLAEigen"
"""Name of the threads in which XLA computes on a CPU (Linux)."""

MAX_INDEX_BITS = 20
"""Bits of an index that share 32 with random ones in `permutations`; 12 are left to be random."""


class Runtime(Base):
    """JAX in one of the modes of a framework on it."""

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

    @contextlib.contextmanager
    def precision_scope(self) -> Iterator[None]:
        x64, matmul = _precision_settings(self.precision)
        with jax.enable_x64(x64), jax.default_matmul_precision(matmul):
            yield

    def compile_act(self, raw: Agent) -> Callable[..., Any]:
        def act(state, obs, noise, t, *memory):
            return state, raw.act(state, obs, noise[t], *memory)

        compiled = self.transform(act, keep=True)

        def call(state, obs, noise, t, *memory):
            return compiled(state, obs, noise, np.int32(t), *memory)[1]

        return call

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
        """Compile `fn(state, *args) -> (state, out)`; the buffers of `state` are reused.

        With `keep`, the state is only read and is returned as it was. `donate` is the number of
        leading `args` whose buffers may be reused too.
        """
        if self.mode == "eager":
            return fn
        return TRANSFORMS[self.framework, self.mode](self, fn, keep, donate)

    def _boundary(self) -> tuple[Callable, Callable]:
        """Return (pack, unpack): convert a state to its form between calls in this mode, and back.

        The modes `flat` and `split` keep a list of leaves; the others keep the state itself.
        """
        if self.mode not in ("flat", "split"):
            return (lambda state: state), (lambda state: state)

        def pack(state: State) -> list[Array]:
            leaves, self._treedef = jax.tree.flatten(state)
            return leaves

        def unpack(leaves: list[Array]) -> State:
            return jax.tree.unflatten(self._treedef, leaves)

        return pack, unpack

    def draw(self, draws: Tree, seed: int, index: int) -> Tree:
        return _draw_jit(draws, jax.random.key(seed, impl=self.prng), np.uint32(index))

    def asarray(self, array: Array) -> Array:
        return jax.device_put(jnp.asarray(array), self.native_device)

    def from_dlpack(self, array: Array) -> Array:
        return array if isinstance(array, jax.Array) else jnp.from_dlpack(array)

    def to_numpy(self, tree: Tree) -> Tree:
        if self.ranks.count > 1:
            return jax.tree.map(to_host, tree)
        if self.native_device.platform != "cpu":  # start all copies before waiting for the first
            tree = jax.device_get(tree)
        return jax.tree.map(np.asarray, tree)

    def stack(self, trees: list[Tree]) -> Tree:
        return _stack(trees)

    def sync(self, tree: Tree) -> None:
        jax.block_until_ready(tree)

    def compile_count(self) -> int:
        return _compile_count

    def lock(self) -> AbstractContextManager[Any]:
        # Eager code traces: lax.scan its body in every call, Linen the shapes of parameters.
        return contextlib.nullcontext() if self.mode == "eager" else jax.no_tracing()

    def fallbacks(self) -> dict[str, int]:
        # `jax_disable_jit` makes every jit run op by op.
        disabled = self.mode != "eager" and bool(jax.config.jax_disable_jit)
        return {"fell_to_eager": int(disabled)}

    def memory(self) -> dict[str, int]:
        return device_memory(self.native_device)

    def settings(self) -> dict[str, Any]:
        device = self.native_device
        return {
            "device": str(device),
            "device_kind": device.device_kind,
            "threads": _pool_size() if device.platform == "cpu" else "unknown",
            "x64": bool(jax.config.jax_enable_x64),
            "matmul_precision": str(jax.config.jax_default_matmul_precision),
            "disable_jit": bool(jax.config.jax_disable_jit),
            "prng": self.prng,
            "precision": self.precision,
            "matmul_keeps_2^-12": keeps_small_bits(self),
        }

    def set_threads(self, threads: int) -> None:
        """Start XLA again if its pool for a CPU has another size; arrays of before are lost.

        The pool is sized when XLA starts, which it has done before if an environment was made to
        read its spec.
        """
        global _sleeping_threads
        if jax.distributed.is_initialized():
            return  # the other processes know this client; it was started with its threads
        if self.native_device.platform == "cpu" and _pool_size() not in (threads, "unknown"):
            clear_backends()
            left = count_threads(POOL)
            _sleeping_threads = left if isinstance(left, int) else 0
            self.native_device = _find_device(self.device)


_sleeping_threads = 0
"""Threads of a pool that XLA has left behind when it was started again: nothing runs in them."""


def _pool_size() -> int | str:
    """Return the number of threads in which XLA computes on a CPU; "unknown" without /proc."""
    threads = count_threads(POOL)
    return threads - _sleeping_threads if isinstance(threads, int) else threads


def draw_tree(draws: Tree, key: Array) -> Tree:
    """Draw every leaf of a tree of `Draw`, each from its own split of `key`; traceable."""
    leaves, treedef = jax.tree.flatten(draws, is_leaf=lambda x: isinstance(x, Draw))
    keys = jax.random.split(key, len(leaves))
    return treedef.unflatten([_draw(d, k) for d, k in zip(leaves, keys, strict=True)])


def permutations(key: Array, rows: int, n: int) -> Array:
    """Return [rows, n] int32, each row an independent uniform permutation of range(n).

    One sort of random numbers per row, which have their index in the low bits: XLA sorts single
    numbers six times faster than pairs (decision 0069). Two whose random bits are equal stay in
    order, next to each other.
    """
    index = jax.lax.broadcasted_iota(jnp.uint32, (rows, n), 1)
    bits = jax.random.bits(key, (rows, n), jnp.uint32)
    index_bits = (n - 1).bit_length()
    if index_bits > MAX_INDEX_BITS:
        return jax.lax.sort((bits, index), dimension=1, num_keys=1)[1].astype(jnp.int32)
    mask = np.uint32((1 << index_bits) - 1)
    return (jax.lax.sort(bits & ~mask | index, dimension=1) & mask).astype(jnp.int32)


def device_memory(device: Any) -> dict[str, int]:
    """Return the bytes of live arrays on all devices, and what the device's allocator reports.

    Without an allocator that keeps statistics, `peak_bytes` and `free_bytes` are missing.
    """
    stats = device.memory_stats() or {}
    memory = {"live_bytes": sum(x.nbytes for x in jax.live_arrays())}
    if "peak_bytes_in_use" in stats:
        memory["peak_bytes"] = int(stats["peak_bytes_in_use"])
    if "bytes_limit" in stats:
        memory["free_bytes"] = int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return memory


def _draw(draw: Draw, key: Array) -> Array:
    if draw.kind == "permutation":
        rows = int(np.prod(draw.shape[:-1], dtype=int))
        return permutations(key, rows, draw.shape[-1]).reshape(draw.shape)
    if draw.kind == "integers":
        return (jax.random.bits(key, draw.shape, jnp.uint32) >> 1).astype(jnp.int32)
    return _SAMPLERS[draw.kind](key, draw.shape, jnp.float32)


_SAMPLERS: dict[str, Callable] = {
    "normal": jax.random.normal,
    "gumbel": jax.random.gumbel,
    "uniform": jax.random.uniform,
}


@functools.partial(jax.jit, static_argnums=0)
def _draw_jit(draws: Tree, key: Array, index: Array) -> Tree:
    return draw_tree(draws, jax.random.fold_in(key, index))


@jax.jit
def _stack(trees: list[Tree]) -> Tree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _configure(precision: str) -> None:
    _start_counting_compilations()
    x64, matmul = _precision_settings(precision)
    jax.config.update("jax_enable_x64", x64)
    jax.config.update("jax_default_matmul_precision", matmul)


def _precision_settings(precision: str) -> tuple[bool, str]:
    """Return whether there are 64 bits, and the precision of products."""
    kind = "tensorfloat32" if precision == "tf32" else "highest"  # bfloat16 stays what it is
    return precision == "float64", kind


@contextlib.contextmanager
def kept_settings() -> Iterator[None]:
    """Put the precision of the process back to what it was, at the end of the context."""
    names = ("jax_enable_x64", "jax_default_matmul_precision")
    before = [getattr(jax.config, name) for name in names]
    try:
        yield
    finally:
        for name, value in zip(names, before, strict=True):
            jax.config.update(name, value)


_compile_count = 0
"""Programs compiled since the first runtime was made."""
_is_counting = False


def _start_counting_compilations() -> None:
    """Register the listener, once in a process."""
    global _is_counting
    if not _is_counting:
        jax.monitoring.register_event_duration_secs_listener(_count_compilation)
    _is_counting = True


def _count_compilation(event: str, duration: float, **_: Any) -> None:
    global _compile_count
    if event == "/jax/core/compile/backend_compile_duration":
        _compile_count += 1


def _find_device(name: str) -> Any:
    platforms = require_devices()
    kind, _, index = name.removesuffix(":all").partition(":")
    try:
        return jax.local_devices(backend={"gpu": "cuda"}.get(kind, kind))[int(index or 0)]
    except (RuntimeError, ValueError, IndexError) as error:
        available = ", ".join(sorted({*platforms, "cpu"}))
        raise MissingDevice(f"JAX sees no device {name!r} here (it sees: {available})") from error
