"""The contract between algorithms, runtimes and loops."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from tiebreak.core.errors import UsageError
from tiebreak.core.ranks import ALONE, Ranks

Array = Any  # of NumPy or of a runtime's library
State = Any  # opaque to everything but the agent that made it
Tree = Any  # nested NamedTuples and dictionaries of arrays


@dataclass(frozen=True)
class EnvSpec:
    """Shapes and bounds of one environment's observations and actions.

    Exactly one of `num_actions` (discrete), `nvec` (several discrete choices at once) and
    `action_low`/`action_high` (a box, one number per action dimension) is set. Use `EnvSpec.make`,
    which checks.
    """

    observation_shape: tuple[int, ...]
    num_actions: int | None = None
    action_low: tuple[float, ...] | None = None
    action_high: tuple[float, ...] | None = None
    visible: int | None = None
    """Number of leading entries of an observation that a policy may see; None: all of them. The
    others are privileged: a simulator knows them, and critics may see them."""
    pixels: bool = False
    """True if observations are images of bytes, [height, width, channels] in 0 to 255. They are
    stored as bytes; agents scale them by 1/255."""
    nvec: tuple[int, ...] | None = None
    """Number of values of each choice of an action, as Gymnasium's MultiDiscrete calls it."""

    @classmethod
    def make(
        cls,
        *,
        observation_shape: Sequence[int],
        num_actions: int | None = None,
        action_low: Sequence[float] | None = None,
        action_high: Sequence[float] | None = None,
        visible: int | None = None,
        pixels: bool = False,
        nvec: Sequence[int] | None = None,
    ) -> EnvSpec:
        """Check the arguments and return a spec.

        Raises UsageError for anything but exactly one valid action space.
        """
        shape = tuple(int(n) for n in observation_shape)
        if any(n < 1 for n in shape):
            raise UsageError(f"observation_shape {shape} has a size below 1")
        if visible is not None and not 1 <= visible <= math.prod(shape):
            raise UsageError(f"visible is {visible}; observations {shape} have no such part")
        if pixels and (len(shape) != 3 or visible is not None):
            raise UsageError(f"pixels are [height, width, channels], all visible; got {shape}")
        spec = cls(shape, visible=visible, pixels=bool(pixels))
        is_box = action_low is not None or action_high is not None
        if (num_actions is not None) + (nvec is not None) + is_box != 1:
            raise UsageError(
                "give one of num_actions (discrete), nvec (several discrete choices), and "
                "action_low with action_high (a box)"
            )
        if num_actions is not None:
            if num_actions < 1:
                raise UsageError(f"num_actions is {num_actions}; it must be at least 1")
            return replace(spec, num_actions=int(num_actions))
        if nvec is not None:
            sizes = tuple(int(n) for n in nvec)
            if not sizes or min(sizes) < 1:
                raise UsageError(f"nvec is {sizes}; it needs choices of at least 1 value each")
            return replace(spec, nvec=sizes)
        low, high = _check_bounds(action_low, action_high)
        return replace(spec, action_low=low, action_high=high)

    @property
    def discrete(self) -> bool:
        """True if actions are integers: one in [0, num_actions), or one for each of nvec."""
        return self.num_actions is not None or self.nvec is not None

    @property
    def observation_size(self) -> int:
        """Number of entries of one observation; networks see it flattened."""
        return math.prod(self.observation_shape)

    @property
    def observation_dtype(self) -> str:
        """Type of stored observations; agents compute in floating-point numbers."""
        return "uint8" if self.pixels else "float32"

    def draw_observations(self, rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
        """Draw numbers like those of observations, in their type: pixels, or standard normal."""
        if self.pixels:
            return rng.integers(256, size=shape, dtype=np.uint8)
        return rng.standard_normal(shape, dtype=np.float32)

    @property
    def visible_size(self) -> int:
        """Number of entries of an observation that a policy may see."""
        return self.visible or self.observation_size

    @property
    def action_size(self) -> int:
        """Number of discrete actions, or dimensions of the box: the policy network's outputs.

        Of several choices, the values of all together.
        """
        if self.nvec is not None:
            return sum(self.nvec)
        return self.num_actions if self.num_actions is not None else len(self.action_low or ())

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Shape of one action: () for one integer, else one number per choice or dimension."""
        if self.nvec is not None:
            return (len(self.nvec),)
        return () if self.discrete else (self.action_size,)

    @property
    def bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Lowest and highest actions of the box; empty for discrete actions."""
        return self.action_low or (), self.action_high or ()


def _check_bounds(low: Any, high: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return lowest and highest actions of a box. Raises UsageError for anything else."""
    if low is None or high is None:
        raise UsageError("give both action_low and action_high")
    lows, highs = (tuple(float(x) for x in np.ravel(bound)) for bound in (low, high))
    if not lows or len(lows) != len(highs):
        raise UsageError(f"action bounds must be of one length, got {lows} and {highs}")
    for a, b in zip(lows, highs, strict=True):
        if not (math.isfinite(a) and math.isfinite(b) and a < b):
            raise UsageError(
                f"action bounds must be finite with low < high, got {lows} and {highs}"
            )
    return lows, highs


class Agent(NamedTuple):
    """An algorithm in one framework, as functions: state in, state out."""

    init: Callable[[int], State]
    """Seed -> state with initial weights, which NumPy draws for all frameworks."""
    act: Callable[..., Any]
    """State, obs [N, *obs], noise [N, action_size] -> the algorithm's Act; zero noise is greedy.

    A policy with memory takes a core.memory.Memory as well, and returns its new `hidden`."""
    step: Callable[[State, Any, Any], tuple[State, Any]]
    """State, batch, noise -> state, metrics. One update (PPO: one iteration).

    The state passed in is consumed: use only the one returned.
    """
    dump: Callable[[State], dict[str, np.ndarray]]
    """State -> weights, optimizer moments, step counts and statistics under canonical names."""
    load: Callable[[Mapping[str, np.ndarray]], State]
    """Result of `dump`, in any framework -> state."""


class Build(NamedTuple):
    """Facts of the runtime that an agent needs when it is made."""

    dtype: str = "float32"
    """Name of the floating type of weights and arithmetic: float32 or float64."""
    device: str = "cpu"
    """Device name as the runtime spells it."""
    compile: Callable[[Callable], Callable] = lambda fn: fn
    """Compiles one function in the mode at hand. Only for agents whose step is not compiled as one
    program (torch: loops over updates and minibatches are Python loops)."""
    host_calls: bool = True
    """True if a program in the mode at hand can call Python while it runs."""
    network_dtype: str = ""
    """Name of the floating type that networks compute in, if it is not `dtype`: bfloat16."""
    ranks: Ranks = ALONE
    """The processes that each learn from a part of every batch, in torch."""


class EnvStep(NamedTuple):
    """Result of one vectorised environment step; arrays have a leading axis N."""

    obs: Array
    """[N, *obs]: observations for the next action; after a reset, the first of the new episode."""
    reward: Array
    """[N] float32"""
    terminated: Array
    """[N] bool: the task itself ended; nothing follows."""
    truncated: Array
    """[N] bool: the episode was cut (a time limit); the value of the next state still counts."""
    final_obs: Array
    """[N, *obs]: the next observation *before* any automatic reset; equal to `obs` wherever no
    episode ended."""


LARGEST = 1e18
"""Samples count as this where they are larger, so that their squares are float32 numbers."""


class RunningStats(NamedTuple):
    """Running mean and (biased) variance over `count` samples; count 0: mean 0, variance 1.

    Samples beyond ±LARGEST count as ±LARGEST: the square of one 1e20 would be infinite, and every
    observation after it would be normalized to 0.
    """

    count: Array
    mean: Array
    var: Array
