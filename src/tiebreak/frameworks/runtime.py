"""The contract of a runtime: all that loops, verify and bench use of an array library."""

from __future__ import annotations

import abc
import contextlib
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from tiebreak.core.off_policy import ActNoise, Explored, Exploring
from tiebreak.core.ranks import ALONE, Ranks
from tiebreak.core.types import Agent, Array, Build, State, Tree


class Retraced(RuntimeError):
    """A function was traced or compiled where that is an error; the message names it."""


class Runtime(abc.ABC):
    """One framework in one mode, at one precision, on one device.

    The constructor applies process-wide settings (precision, x64) and does nothing else that is
    expensive. It raises UsageError for a device or precision that is not available.
    """

    name: str
    """Array library: torch, tensorflow or jax."""

    native_device: Any
    """`device` as the library represents it: a torch.device, a jax.Device, TensorFlow's name."""

    prng: str
    """JAX's generator of random bits. A loop sets it from its configuration."""

    ranks: Ranks
    """The processes that train one agent together. A loop sets it before agents are made."""

    def __init__(self, framework: str, mode: str, precision: str, device: str):
        self.framework = framework
        self.mode = mode
        self.precision = precision
        self.device = device
        self.prng = "threefry2x32"
        self.ranks = ALONE

    @abc.abstractmethod
    def build(self) -> Build:
        """Return what an agent needs to know when it is made: dtype, device, compile function."""

    @abc.abstractmethod
    def agent(self, raw: Agent) -> Agent:
        """Return `raw` with every function executed in this mode; NumPy arrays are accepted."""

    @abc.abstractmethod
    def precision_scope(self) -> AbstractContextManager[Any]:
        """Return a context in which the library computes in this precision.

        After it, the settings of the process are what they were. Making a runtime sets them for the
        whole process, which is right for a process of our own: its loops enter no context.
        """

    def isolated(self, agent: Agent) -> Agent:
        """Return an agent whose functions compute in this precision whatever the process's is."""

        def wrap(fn: Callable) -> Callable:
            @functools.wraps(fn)
            def call(*args: Any, **kwargs: Any) -> Any:
                with self.precision_scope():
                    return fn(*args, **kwargs)

            return call

        return Agent(*map(wrap, agent))

    def start_compiling(self) -> None:  # noqa: B027, most runtimes have no mode `auto`
        """Run compiled from the next call on: only in mode `auto` was it otherwise so far."""

    @abc.abstractmethod
    def compile_act(self, raw: Agent) -> Callable[..., Any]:
        """Compile `act` over a block of noise.

        Returns a function (state, obs [N, *obs], noise [T, N, A], t, *memory) -> Act, where
        `memory` is one Memory of a policy that has one. The block is drawn once per rollout;
        `noise[t]` is taken inside the compiled function.
        """

    @abc.abstractmethod
    def compile_exploring_act(
        self, raw: Agent, scales: tuple[float, float]
    ) -> Callable[[State, Array, ActNoise, int, Exploring], Explored]:
        """Compile `act` with a noise scale σ per episode, drawn uniformly from `scales`.

        `act` receives σ times the normal draw of step t. Returns a function (state, obs, block of
        ActNoise [T, …], t, exploring) -> Explored.
        """

    @abc.abstractmethod
    def compile_update(
        self, raw: Agent, sample: Callable
    ) -> Callable[[State, Tree, Tree, int], tuple[State, Any]]:
        """Compile `step` on a batch that `sample(replay, index)` reads from the replay.

        Returns a function (state, replay, draws, r) -> (state, metrics). `draws` are the
        `OffPolicyDraws` of one iteration; round r uses entry r of them. The replay is not changed.
        """

    @abc.abstractmethod
    def compile_replay_write(self, fn: Callable) -> Callable[[Tree, Tree], Tree]:
        """Compile `fn(arrays, rows) -> arrays`, which may reuse the memory of `arrays`."""

    def transform(self, fn: Callable, keep: bool = False, donate: int = 0) -> Callable:
        """Compile `fn(state, *args) -> (state, out)`; the buffers of `state` are reused.

        With `keep`, the state is only read and is returned as it was. `donate` is the number of
        leading `args` whose buffers may be reused too. Fused loops put environment and learner
        into one such function, so only a library with device environments (JAX) implements it.
        """
        raise NotImplementedError(f"{self.name} has no fused loops; use loop 'host'")

    @abc.abstractmethod
    def draw(self, draws: Tree, seed: int, index: int) -> Tree:
        """Draw a tree of core.noise.Draw on the device, as a pure function of (seed, index)."""

    @abc.abstractmethod
    def asarray(self, array: Array) -> Array:
        """Copy a NumPy array to the device; float64 becomes the working precision."""

    @abc.abstractmethod
    def from_dlpack(self, array: Array) -> Array:
        """Convert an array of another library, without a copy where possible."""

    @abc.abstractmethod
    def to_numpy(self, tree: Tree) -> Tree:
        """Convert every leaf to NumPy in one synchronisation; zero-copy on a CPU if possible."""

    @abc.abstractmethod
    def stack(self, trees: list[Tree]) -> Tree:
        """Stack trees of one structure along a new leading axis."""

    @abc.abstractmethod
    def sync(self, tree: Tree) -> None:
        """Wait until everything in `tree` is computed. Only benchmarks call this."""

    @abc.abstractmethod
    def compile_count(self) -> int:
        """Return the number of compilations (or traces) in this process so far."""

    def lock(self) -> AbstractContextManager[Any]:
        """Make retracing an error inside this context (see `retraced`). No-op in eager modes."""
        return contextlib.nullcontext()

    def fallbacks(self) -> dict[str, int]:
        """Count how often this mode did not do what its name says.

        `fell_to_eager`: functions that should have been compiled and were not. `graph_break`:
        compiled functions that consist of several programs with Python in between.
        """
        return {}

    @abc.abstractmethod
    def memory(self) -> dict[str, int]:
        """Return `live_bytes` and `peak_bytes` as the library reports them, or nothing.

        A device with memory of its own also reports `free_bytes`, what is still available.
        """

    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """Read effective settings back: threads, precision, device, flags."""

    @abc.abstractmethod
    def set_threads(self, threads: int) -> None:
        """Set intra-op threads to `threads` and inter-op threads to 1, where a call can do so."""


RETRACING = ("'no_tracing' is set", "fail_on_recompile", "Recompiling function")
"""Error texts of JAX and torch for tracing under a lock; TensorFlow's lock raises Retraced."""


def retraced(error: BaseException) -> bool:
    """Return True if an exception reports tracing under a lock, or one recompilation too many."""
    if type(error).__name__ in ("Retraced", "RecompileError", "FailOnRecompileLimitHit"):
        return True
    return any(text in str(error) for text in RETRACING)


def keeps_small_bits(runtime: Runtime) -> bool:
    """Return True if a float32 matrix product keeps 1 + 2⁻¹², which TF32 and bfloat16 round to 1.

    This measures the effect of the precision settings. Libraries differ in their defaults and in
    the names of these settings.
    """
    small = np.float32(1 + 2**-12)
    identity = np.eye(256, dtype=np.float32)
    product = runtime.asarray(small * identity) @ runtime.asarray(identity)
    return bool((np.diagonal(runtime.to_numpy(product)) == small).all())


def numpy_stack(trees: list[Tree]) -> Tree:
    """Stack NamedTuples of NumPy arrays along a new leading axis."""
    first = trees[0]
    return type(first)(*(np.stack(leaves) for leaves in zip(*trees, strict=True)))


TASKS = Path("/proc/self/task")
"""One folder per thread of this process (Linux)."""


def count_threads(pool: str) -> int | str:
    """Count this process's threads named `pool`; "unknown" if there are none or no /proc."""
    count = 0
    with contextlib.suppress(OSError):
        for task in TASKS.iterdir():
            with contextlib.suppress(OSError):  # the thread has ended meanwhile
                count += (task / "comm").read_text(encoding="utf-8").strip() == pool
    return count or "unknown"
