"""What every runtime offers; loops and bench see a framework only through this."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import numpy as np

from tiebreak.core.types import Agent, Array, Build, State, Tree


class Runtime(abc.ABC):
    """One framework in one mode, at one precision, on one device.

    Constructing it applies the process-wide settings (precision, x64); it is cheap otherwise.
    Raises UsageError for a device or precision that is not there.
    """

    def __init__(self, framework: str, mode: str, precision: str, device: str):
        self.framework, self.mode, self.precision, self.device = framework, mode, precision, device

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

    @abc.abstractmethod
    def memory(self) -> dict[str, int]:
        """`live_bytes` and `peak_bytes` as the library reports them; empty where it cannot."""

    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """Effective settings *read back*: threads, inter-op threads, precision, device, flags."""

    @abc.abstractmethod
    def set_threads(self, threads: int) -> None:
        """Intra-op threads to `threads`, inter-op to 1, where the library takes it by call."""


def numpy_stack(trees: list[Tree]) -> Tree:
    """Stack like NamedTuples of NumPy arrays along a new leading axis."""
    first = trees[0]
    return type(first)(*(np.stack(leaves) for leaves in zip(*trees, strict=True)))
