"""DQN's configuration and its reference values. Decision tags point into README.md."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from tiebreak.core import networks, off_policy
from tiebreak.core.errors import UsageError
from tiebreak.core.networks import Layers
from tiebreak.core.off_policy import OffPolicyConfig
from tiebreak.core.types import EnvSpec


@dataclass(frozen=True)
class Config(OffPolicyConfig):
    """All of DQN's settings; the defaults are the reference (CartPole)."""

    total_steps: int = 500_000
    """Environment steps of the whole training, all environments together."""
    num_envs: int = 1
    """Environments stepped side by side."""
    num_steps: int = 10
    """Steps of each environment between updates."""
    learning_starts: int = 10_000
    """Environment steps with uniformly random actions before the first update; whole iterations."""
    replay_size: int = 10_000
    """Transitions kept, all environments together."""
    batch_size: int = 128
    """Transitions per update."""
    learning_rate: float = 2.5e-4
    """Adam's step size."""
    target_every: int = 500
    """Environment steps between copies of the network into the target network (D4)."""
    epsilon_start: float = 1.0
    """Share of random actions ε at step 0 (D1)."""
    epsilon_end: float = 0.05
    """Share of random actions ε after the exploration (D1)."""
    exploration_fraction: float = 0.5
    """Share of total_steps over which ε falls linearly (D1)."""
    double_q: bool = False
    """Choose the next action by the network, and take its value from the target network (D3)."""
    num_atoms: int = 1
    """Number of possible returns of an action's distribution, even from v_min to v_max (C51,
    Bellemare et al. 2017); 1: no distributions, but values (D8)."""
    v_min: float = -10.0
    """Lowest of those returns."""
    v_max: float = 10.0
    """Highest of those returns."""
    network: str = "mlp"
    """Layers of every network: `mlp` (dense layers), `cnn` (convolutions before them), which is the
    reference for images, `norm_mlp` and `norm_cnn` (the same with LayerNorm), or `simba` (a
    residual block for each of hidden_sizes)."""
    hidden_sizes: tuple[int, ...] = (120, 84)
    """Widths of the hidden layers."""
    activation: Literal["tanh", "relu"] = "relu"
    """Activation after every hidden layer."""

    @property
    def layers(self) -> Layers:
        """Layers of every network."""
        return Layers(self.network, self.hidden_sizes, self.activation)

    @property
    def span(self) -> tuple[float, float]:
        """Lowest and highest return that distributions can represent."""
        return self.v_min, self.v_max

    @property
    def target_period(self) -> int:
        """Updates between copies into the target network."""
        return self.target_every * self.num_updates // self.round_steps


RANGES = {
    "learning_rate": (0.0, math.inf),
    "epsilon_start": (0.0, 1.0),
    "epsilon_end": (0.0, 1.0),
    "exploration_fraction": (0.0, 1.0),
}
"""Lowest and highest valid values of the numbers that are not counts."""


ATARI: dict[str, Any] = {
    "total_steps": 10_000_000, "num_steps": 4, "learning_starts": 80_000, "replay_size": 100_000,
    "batch_size": 32, "learning_rate": 1e-4, "target_every": 1000, "epsilon_end": 0.01,
    "exploration_fraction": 0.1,
}  # fmt: skip
"""Settings for images of bytes: CleanRL's dqn_atari.py, with a tenth of its replay (5.6 GB)."""


def reference(spec: EnvSpec) -> Config:
    """Return the reference settings for discrete actions.

    Raises UsageError for a box, over which DQN cannot take the maximum, and for several discrete
    actions at once.
    """
    if not spec.discrete:
        raise UsageError("dqn needs discrete actions; for a box use td3, sac, mpo or ppo")
    if spec.nvec is not None:
        raise UsageError(
            f"dqn needs one discrete action; for {len(spec.nvec)} at once (MultiDiscrete) use ppo"
        )
    config = Config(**ATARI) if spec.pixels else Config()
    return networks.for_observations(config, spec)


def check(config: Config) -> Config:
    """Raise UsageError if settings contradict one another; return `config`."""
    off_policy.check(config, RANGES)
    if config.target_every * config.num_updates % config.round_steps or not config.target_period:
        raise UsageError(
            f"target_every is {config.target_every}; it must be a multiple of the environment "
            f"steps per update (num_envs * num_steps / num_updates = "
            f"{config.round_steps / config.num_updates:g})"
        )
    if config.v_min >= config.v_max:
        raise UsageError(f"v_min is {config.v_min}; it must be below v_max ({config.v_max})")
    networks.check(config.network, config.hidden_sizes)
    if any(n < 1 for n in config.hidden_sizes):
        raise UsageError(f"hidden_sizes {config.hidden_sizes} has a width below 1")
    return config
