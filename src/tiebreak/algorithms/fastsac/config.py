"""FastSAC's configuration and its reference values. Decision tags point into README.md."""

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
    """All of FastSAC's settings; the defaults are the authors' for walking humanoids."""

    total_steps: int = 204_800_000
    """Environment steps of the whole training, all environments together."""
    num_envs: int = 4096
    """Environments stepped side by side."""
    num_updates: int = 8
    """Updates of the critics per round; a multiple of policy_delay."""
    num_rounds: int = 10
    """Rounds per iteration. Random numbers are drawn for a whole iteration: num_rounds ·
    num_updates · batch_size · A for the critics' target alone."""
    learning_starts: int = 40_960
    """Environment steps with uniformly random actions before the first update; whole iterations."""
    replay_size: int = 4_194_304
    """Transitions kept, all environments together: 1024 per environment."""
    batch_size: int = 8192
    """Transitions per update."""
    gamma: float = 0.97
    """Discount per step."""
    normalize_obs: bool = True
    """Normalize observations to mean 0 and variance 1, by statistics of training batches (D10)."""
    actor_lr: float = 3e-4
    """Step size of the actor's optimizer."""
    critic_lr: float = 3e-4
    """Step size of the critics' optimizer."""
    alpha_lr: float = 3e-4
    """Step size for log α; 0 keeps α at `init_alpha` (D6)."""
    adam_beta2: float = 0.95
    """Decay rate of Adam's second moments, of all three optimizers (D8)."""
    weight_decay: float = 0.001
    """Weight decay of actor and critics: an update multiplies weights by 1 − step size · this
    (D8)."""
    alpha_weight_decay: float = 0.01
    """Weight decay of log α, towards α = 1 (D8)."""
    init_alpha: float = 0.001
    """Initial temperature α, in rewards per nat of entropy."""
    target_entropy_scale: float = 0.0
    """Target entropy per action dimension, times −1, in nats (D6)."""
    policy_delay: int = 4
    """Updates of the critics per update of the actor (D7)."""
    tau: float = 0.125
    """Share by which target critics move towards the critics, per update of the critics (D7)."""
    log_std_min: float = -5.0
    """Lower bound of the policy's log standard deviation before tanh (D3)."""
    log_std_max: float = 0.0
    """Upper bound of the policy's log standard deviation before tanh (D3)."""
    num_atoms: int = 101
    """Number of possible returns of a critic's distribution, even from v_min to v_max (D4)."""
    v_min: float = -20.0
    """Lowest of those returns."""
    v_max: float = 20.0
    """Highest of those returns."""
    network: str = "norm_mlp"
    """Layers of every network: `norm_mlp` (dense layers with LayerNorm), `norm_cnn` (convolutions
    before them), which is the reference for images, or `mlp`, `cnn` and `simba`."""
    actor_sizes: tuple[int, ...] = (512, 256, 128)
    """Widths of the actor's hidden layers."""
    critic_sizes: tuple[int, ...] = (768, 384, 192)
    """Widths of the critics' hidden layers."""
    activation: Literal["tanh", "relu", "silu"] = "silu"
    """Activation after every hidden layer (D9)."""

    @property
    def actor_layers(self) -> Layers:
        """Layers of the actor."""
        return Layers(self.network, self.actor_sizes, self.activation)

    @property
    def critic_layers(self) -> Layers:
        """Layers of each critic."""
        return Layers(self.network, self.critic_sizes, self.activation)

    @property
    def rates(self) -> dict[str, float]:
        """Step size of each optimizer, in the order of the updates (D7)."""
        return {"critic": self.critic_lr, "alpha": self.alpha_lr, "actor": self.actor_lr}

    @property
    def decays(self) -> dict[str, float]:
        """Weight decay of each optimizer (D8)."""
        weights, alpha = self.weight_decay, self.alpha_weight_decay
        return {"critic": weights, "alpha": alpha, "actor": weights}

    @property
    def span(self) -> tuple[float, float]:
        """Lowest and highest return that critics can represent."""
        return self.v_min, self.v_max

    @property
    def log_std_range(self) -> tuple[float, float]:
        """Lower and upper bound of the log standard deviation."""
        return self.log_std_min, self.log_std_max


RANGES = {
    "actor_lr": (0.0, math.inf),
    "critic_lr": (0.0, math.inf),
    "alpha_lr": (0.0, math.inf),
    "adam_beta2": (0.01, 0.99999),
    "weight_decay": (0.0, math.inf),
    "alpha_weight_decay": (0.0, math.inf),
    "init_alpha": (1e-8, math.inf),
    "tau": (0.0, 1.0),
    "num_atoms": (2, math.inf),
}
"""Lowest and highest valid values of the numbers that are not counts."""


TASKS: dict[str, dict[str, Any]] = {"playground/CheetahRun": {"v_min": -5.0, "v_max": 35.0}}
"""Settings by the beginning of a task's name.

The authors have none of Playground's tasks. CheetahRun pays up to 1 a step, 33 in all at γ 0.97, of
which their ±20 would cut a third off.
"""


def reference(spec: EnvSpec) -> Config:
    """Return the reference settings for a box of actions, without those of TASKS.

    Raises UsageError for discrete actions, in which a critic has no gradient.
    """
    off_policy.require_box("fastsac", spec)
    return networks.for_observations(Config(), spec)


def check(config: Config) -> Config:
    """Raise UsageError if settings contradict one another; return `config`."""
    off_policy.check(config, RANGES)
    if config.num_updates % config.policy_delay:
        raise UsageError(
            f"policy_delay is {config.policy_delay}; it must divide num_updates "
            f"({config.num_updates}), so that every round ends with an update of the actor"
        )
    for low, high in (("v_min", "v_max"), ("log_std_min", "log_std_max")):
        lowest, highest = getattr(config, low), getattr(config, high)
        if not lowest < highest:
            raise UsageError(f"{low} is {lowest}; it must be below {high} ({highest})")
    networks.check(config.network, config.actor_sizes, config.critic_sizes)
    for name in ("actor_sizes", "critic_sizes"):
        if any(n < 1 for n in getattr(config, name)):
            raise UsageError(f"{name} {getattr(config, name)} has a width below 1")
    return config
