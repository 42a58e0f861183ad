"""SAC's configuration and its reference values. Decision tags point into README.md."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from tiebreak.core import networks, off_policy
from tiebreak.core.errors import UsageError
from tiebreak.core.networks import Layers
from tiebreak.core.off_policy import OffPolicyConfig
from tiebreak.core.types import EnvSpec


@dataclass(frozen=True)
class Config(OffPolicyConfig):
    """All of SAC's settings; the defaults are the reference (MuJoCo).

    Inherited defaults: one environment, one update per step, batch 256, 5000 random steps.
    """

    actor_lr: float = 3e-4
    """Adam's step size for the policy."""
    critic_lr: float = 1e-3
    """Adam's step size for both critics."""
    alpha_lr: float = 1e-3
    """Adam's step size for log α; 0 keeps α at `init_alpha` (D6)."""
    init_alpha: float = 1.0
    """Initial temperature α, in rewards per nat of entropy."""
    target_entropy_scale: float = 1.0
    """Target entropy per action dimension, times −1, in nats (D6). For discrete actions: in units
    of the largest entropy that their number allows (D12)."""
    tau: float = 0.005
    """Share by which target critics move towards the critics, per update (D9)."""
    log_std_min: float = -5.0
    """Lower bound of the policy's log standard deviation before tanh (D3)."""
    log_std_max: float = 2.0
    """Upper bound of the policy's log standard deviation before tanh (D3)."""
    network: str = "mlp"
    """Layers of every network: `mlp` (dense layers), `cnn` (convolutions before them), which is the
    reference for images, `norm_mlp` and `norm_cnn` (the same with LayerNorm), or `simba` (a
    residual block for each of hidden_sizes)."""
    hidden_sizes: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers, the same for policy and critics."""
    activation: Literal["tanh", "relu"] = "relu"
    """Activation after every hidden layer."""

    @property
    def layers(self) -> Layers:
        """Layers of every network."""
        return Layers(self.network, self.hidden_sizes, self.activation)

    @property
    def rates(self) -> dict[str, float]:
        """Step size of each optimizer, in the order of the updates (D7)."""
        return {"critic": self.critic_lr, "actor": self.actor_lr, "alpha": self.alpha_lr}

    @property
    def log_std_range(self) -> tuple[float, float]:
        """Lower and upper bound of the log standard deviation."""
        return self.log_std_min, self.log_std_max


RANGES = {
    "actor_lr": (0.0, math.inf),
    "critic_lr": (0.0, math.inf),
    "alpha_lr": (0.0, math.inf),
    "init_alpha": (1e-8, math.inf),
    "tau": (0.0, 1.0),
}
"""Lowest and highest valid values of the numbers that are not counts."""

DISCRETE = {"target_entropy_scale": 0.89}
"""Settings for discrete actions: CleanRL's sac_atari.py."""


def reference(spec: EnvSpec) -> Config:
    """Return the reference settings for a box, or for one discrete action (D12).

    Raises UsageError for several discrete actions at once.
    """
    off_policy.require_one_choice("sac", spec)
    config = Config(**DISCRETE) if spec.discrete else Config()
    return networks.for_observations(config, spec)


def equal_rates(spec: EnvSpec) -> Config:
    """Return the reference with one step size for all optimizers, 3e-4, as in the original."""
    return replace(reference(spec), actor_lr=3e-4, critic_lr=3e-4, alpha_lr=3e-4)


def check(config: Config) -> Config:
    """Raise UsageError if settings contradict one another; return `config`."""
    off_policy.check(config, RANGES)
    if not config.log_std_min < config.log_std_max:
        raise UsageError(
            f"log_std_min is {config.log_std_min}; it must be below log_std_max "
            f"({config.log_std_max})"
        )
    networks.check(config.network, config.hidden_sizes)
    if any(n < 1 for n in config.hidden_sizes):
        raise UsageError(f"hidden_sizes {config.hidden_sizes} has a width below 1")
    return config
