"""TD3's configuration and its reference values. Decision tags point into README.md."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tiebreak.core import networks, off_policy
from tiebreak.core.errors import UsageError
from tiebreak.core.networks import Layers
from tiebreak.core.off_policy import OffPolicyConfig
from tiebreak.core.types import EnvSpec


@dataclass(frozen=True)
class Config(OffPolicyConfig):
    """All of TD3's settings; the defaults are the reference (MuJoCo)."""

    num_steps: int = 2
    """Steps of each environment between updates."""
    num_updates: int = 2
    """Updates of the critics per round; a multiple of policy_delay."""
    learning_starts: int = 25_000
    """Environment steps with uniformly random actions before the first update; whole iterations."""
    actor_lr: float = 3e-4
    """Step size of the actor's optimizer."""
    critic_lr: float = 3e-4
    """Step size of the critics' optimizer."""
    policy_delay: int = 2
    """Updates of the critics per update of the actor and the target networks (D5)."""
    tau: float = 0.005
    """Share by which target networks move towards the networks, per update of the actor (D5)."""
    exploration_noise: float = 0.1
    """Standard deviation of the exploration noise, for actions in [-1, 1] (D1)."""
    target_noise: float = 0.2
    """Standard deviation of the noise on the target policy's actions (D2)."""
    noise_clip: float = 0.5
    """Largest absolute value of that noise (D2)."""
    network: str = "mlp"
    """Layers of every network: `mlp` (dense layers), `cnn` (convolutions before them), which is the
    reference for images, `norm_mlp` and `norm_cnn` (the same with LayerNorm), or `simba` (a
    residual block for each of hidden_sizes)."""
    hidden_sizes: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers, the same for actor and critics."""
    activation: Literal["tanh", "relu"] = "relu"
    """Activation after every hidden layer."""

    @property
    def layers(self) -> Layers:
        """Layers of every network."""
        return Layers(self.network, self.hidden_sizes, self.activation)

    @property
    def rates(self) -> dict[str, float]:
        """Step size of each optimizer, in the order of the updates (D5)."""
        return {"critic": self.critic_lr, "actor": self.actor_lr}


RANGES = {
    "actor_lr": (0.0, math.inf),
    "critic_lr": (0.0, math.inf),
    "tau": (0.0, 1.0),
    "exploration_noise": (0.0, math.inf),
    "target_noise": (0.0, math.inf),
    "noise_clip": (0.0, math.inf),
}
"""Lowest and highest valid values of the numbers that are not counts."""


def reference(spec: EnvSpec) -> Config:
    """Return the reference settings for a box of actions.

    Raises UsageError for discrete actions, in which a critic has no gradient.
    """
    off_policy.require_box("td3", spec)
    return networks.for_observations(Config(), spec)


def check(config: Config) -> Config:
    """Raise UsageError if settings contradict one another; return `config`."""
    off_policy.check(config, RANGES)
    if config.num_updates % config.policy_delay:
        raise UsageError(
            f"policy_delay is {config.policy_delay}; it must divide num_updates "
            f"({config.num_updates}), so that every round ends with an update of the actor"
        )
    networks.check(config.network, config.hidden_sizes)
    if any(n < 1 for n in config.hidden_sizes):
        raise UsageError(f"hidden_sizes {config.hidden_sizes} has a width below 1")
    return config
