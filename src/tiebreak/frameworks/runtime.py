"""What every runtime offers; loops and bench see a framework only through this."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from tiebreak.core.off_policy import ActNoise, Explored, Exploring
from tiebreak.core.types import Agent, Array, Build, State, Tree


class Retraced(RuntimeError):
    """A function was traced or compiled where that is an error; the message says which."""


class Runtime(abc.ABC):
    """One framework in one mode, at one precision, on one device.

    Constructing it applies the process-wide settings (precision, x64); it is cheap otherwise.
    Raises UsageError for a device or precision that is not there.
    """

    name: str
    """Of the array library: torch, tensorflow or jax."""

    def __init__(self, framework: str, mode: str, precision: str, device: str):
        self.framework, self.mode, self.precision, self.device = framework, mode, precision, device
        self.prng = "threefry2x32"  # JAX's generator; a loop's config may name another

    @abc.abstractmethod
    def build(self) -> Build:
        """What agents are told."""

    @abc.abstractmethod
    def agent(self, raw: Agent) -> Agent:
        """`raw` with every function executed in this mode and NumPy arrays accepted."""

    @abc.abstractmethod
    def actor(self, raw: Agent) -> Callable[[State, Array, Array, int], Any]:
        """`act` in this mode over a block of noise: (state, obs, noise [T, N, A], t) -> Act.

        The block is drawn once per rollout; indexing happens inside the compiled function.
        """

    @abc.abstractmethod
    def explorer(
        self, raw: Agent, scales: tuple[float, float]
    ) -> Callable[[State, Array, ActNoise, int, Exploring], Explored]:
        """`actor` for algorithms whose episodes have a σ each, drawn from between `scales`: the
        noise that `act` is given is σ times the block's; (state, obs, block [T, …], t, exploring).
        """

    @abc.abstractmethod
    def learner(self, raw: Agent, sample: Callable) -> Callable[[State, Tree, Tree, int], Any]:
        """`step` in this mode on what `sample` finds: (state, replay, draws, r) -> state, metrics.

        `draws` are an iteration's `OffPolicyDraws`, of which round r is used; the replay is only
        read. Sampling is compiled as `step` is.
        """

    @abc.abstractmethod
    def writer(self, fn: Callable) -> Callable[[Tree, Tree], Tree]:
        """`fn(arrays, rows) -> arrays`, which may reuse the memory of `arrays`."""

    @abc.abstractmethod
    def draw(self, draws: Tree, seed: int, index: int) -> Tree:
        """Draw a tree of core.noise.Draw on the device: a pure function of (seed, index)."""

    @abc.abstractmethod
    def asarray(self, array: Array) -> Array:
        """NumPy -> the device, in its dtype; float64 becomes the working precision."""

    @abc.abstractmethod
    def from_dlpack(self, array: Array) -> Array:
        """An array of another library as this runtime's own, without a copy where possible."""

    @abc.abstractmethod
    def to_numpy(self, tree: Tree) -> Tree:
        """Every leaf as NumPy, in one synchronisation; zero-copy on CPU where possible."""

    @abc.abstractmethod
    def stack(self, trees: list[Tree]) -> Tree:
        """Like trees of the runtime's own arrays -> one tree with a new leading axis."""

    @abc.abstractmethod
    def sync(self, tree: Tree) -> None:
        """Wait until everything in `tree` is computed. Only the harness calls this."""

    @abc.abstractmethod
    def compile_count(self) -> int:
        """Compilations (or traces) in this process so far: silent counters mean steady state."""

    def lock(self) -> AbstractContextManager[Any]:
        """Retracing inside is an error (see `retraced`); eager modes trace as they go, unlocked."""
        return contextlib.nullcontext()

    def fallbacks(self) -> dict[str, int]:
        """How often so far this mode did not do what it is for.

        `fell_to_eager`: functions that should be compiled and ran as they are; `graph_break`:
        compiled ones that are several programs with Python in between.
        """
        return {}

    @abc.abstractmethod
    def memory(self) -> dict[str, int]:
        """`live_bytes` and `peak_bytes` as the library reports them; empty where it cannot.

        `free_bytes`, what can still be had, is there where the device has memory of its own.
        """

    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """Effective settings *read back*: threads, inter-op threads, precision, device, flags."""

    @abc.abstractmethod
    def set_threads(self, threads: int) -> None:
        """Intra-op threads to `threads`, inter-op to 1, where the library takes it by call."""


RETRACING = ("'no_tracing' is set", "fail_on_recompile", "Recompiling function")
"""What JAX and torch say when they trace under a lock; TensorFlow's lock is ours: Retraced."""


def retraced(error: BaseException) -> bool:
    """Whether an exception means that something was retraced under a lock, or once too often."""
    named = type(error).__name__ in ("Retraced", "RecompileError", "FailOnRecompileLimitHit")
    return named or any(words in str(error) for words in RETRACING)


def keeps_small_bits(runtime: Runtime) -> bool:
    """Whether a float32 matrix product keeps 1 + 2⁻¹², which TF32 and bfloat16 round to 1.

    What the settings *do*, whatever they say: libraries differ in defaults and in names.
    """
    small = np.float32(1 + 2**-12)
    product = runtime.asarray(small * np.eye(256, dtype=np.float32)) @ runtime.asarray(
        np.eye(256, dtype=np.float32)
    )
    return bool((np.diagonal(runtime.to_numpy(product)) == small).all())


def numpy_stack(trees: list[Tree]) -> Tree:
    """Stack like NamedTuples of NumPy arrays along a new leading axis."""
    first = trees[0]
    return type(first)(*(np.stack(leaves) for leaves in zip(*trees, strict=True)))
