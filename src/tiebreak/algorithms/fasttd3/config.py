"""FastTD3's configuration and its reference values. Decision tags point into README.md."""

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
    """All of FastTD3's settings; the defaults are the authors' for walking humanoids, except γ."""

    total_steps: int = 102_400_000
    """Environment steps of the whole training, all environments together."""
    num_envs: int = 1024
    """Environments stepped side by side."""
    num_updates: int = 2
    """Updates of the critics per round; a multiple of policy_delay."""
    num_rounds: int = 10
    """Rounds per iteration. Random numbers are drawn for a whole iteration: num_rounds ·
    num_updates · batch_size · A for the target policy's noise alone."""
    learning_starts: int = 10_240
    """Environment steps with uniformly random actions before the first update; whole iterations."""
    replay_size: int = 10_485_760
    """Transitions kept, all environments together: 10240 per environment."""
    batch_size: int = 32_768
    """Transitions per update."""
    normalize_obs: bool = True
    """Normalize observations to mean 0 and variance 1, by statistics of training batches (D9)."""
    actor_lr: float = 3e-4
    """Step size of the actor's optimizer."""
    critic_lr: float = 3e-4
    """Step size of the critics' optimizer."""
    weight_decay: float = 0.1
    """Weight decay of AdamW: an update multiplies weights by 1 − step size · this (D7)."""
    policy_delay: int = 2
    """Updates of the critics per update of the actor (D6)."""
    tau: float = 0.1
    """Share by which target critics move towards the critics, per update of the critics (D6)."""
    noise_min: float = 0.001
    """Lowest standard deviation σ of an episode's exploration noise; actions in [-1, 1] (D1)."""
    noise_max: float = 0.4
    """Highest σ of an episode's exploration noise (D1)."""
    target_noise: float = 0.001
    """Standard deviation of the noise on the policy's actions in the critics' target (D2)."""
    noise_clip: float = 0.5
    """Largest absolute value of that noise (D2)."""
    num_atoms: int = 101
    """Number of possible returns of a critic's distribution, even from v_min to v_max (D3)."""
    v_min: float = -10.0
    """Lowest of those returns."""
    v_max: float = 10.0
    """Highest of those returns."""
    network: str = "mlp"
    """Layers of every network: `mlp` (dense layers), `cnn` (convolutions before them), which is the
    reference for images, `norm_mlp` and `norm_cnn` (the same with LayerNorm), or `simba` (a
    residual block for each of the sizes)."""
    actor_sizes: tuple[int, ...] = (512, 256, 128)
    """Widths of the actor's hidden layers."""
    critic_sizes: tuple[int, ...] = (1024, 512, 256)
    """Widths of the critics' hidden layers."""
    activation: Literal["tanh", "relu"] = "relu"
    """Activation after every hidden layer."""
    init_scale: float = 0.01
    """Standard deviation of the initial weights of the actor's last layer (D8)."""

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
        """Step size of each optimizer, in the order of the updates (D6)."""
        return {"critic": self.critic_lr, "actor": self.actor_lr}

    @property
    def span(self) -> tuple[float, float]:
        """Lowest and highest return that critics can represent."""
        return self.v_min, self.v_max


RANGES = {
    "actor_lr": (0.0, math.inf),
    "critic_lr": (0.0, math.inf),
    "weight_decay": (0.0, math.inf),
    "tau": (0.0, 1.0),
    "noise_min": (0.0, math.inf),
    "noise_max": (0.0, math.inf),
    "target_noise": (0.0, math.inf),
    "noise_clip": (0.0, math.inf),
    "num_atoms": (2, math.inf),
    "init_scale": (0.0, math.inf),
}
"""Lowest and highest valid values of the numbers that are not counts."""


GO1 = {
    "total_steps": 51_200_000, "num_updates": 8, "noise_min": 0.2, "noise_max": 0.8,
    "target_noise": 0.2,
}  # fmt: skip

TASKS: dict[str, dict[str, Any]] = {
    "playground/": {"gamma": 0.97, "total_steps": 153_600_000},
    "playground/G1Joystick": {"total_steps": 102_400_000},
    "playground/T1Joystick": {"total_steps": 102_400_000},
    "playground/CheetahRun": {
        "n_step": 3, "v_min": -500.0, "v_max": 500.0, "noise_min": 0.1, "target_noise": 0.1,
    },
    "playground/Go1Joystick": GO1,
    "playground/Go1Getup": GO1,
    "playground/LeapCubeReorient": {
        "gamma": 0.99, "n_step": 3, "v_min": -50.0, "v_max": 50.0, "target_noise": 0.2,
    },
    "playground/LeapCubeRotateZAxis": {"gamma": 0.99, "target_noise": 0.2},
}  # fmt: skip
"""The authors' settings by the beginning of a task's name; later rows override earlier ones.

From fast_td3/hyperparams.py, commit 229ed59 (2026-05-15); budgets are its `total_timesteps` times
`num_envs`. Tasks without a row there have those of `playground/`. Not taken over: `use_cdq=False`
of the two hands.
"""


def reference(spec: EnvSpec) -> Config:
    """Return the reference settings for a box of actions, without those of TASKS.

    Raises UsageError for discrete actions, in which a critic has no gradient.
    """
    off_policy.require_box("fasttd3", spec)
    return networks.for_observations(Config(), spec)


def check(config: Config) -> Config:
    """Raise UsageError if settings contradict one another; return `config`."""
    off_policy.check(config, RANGES)
    if config.num_updates % config.policy_delay:
        raise UsageError(
            f"policy_delay is {config.policy_delay}; it must divide num_updates "
            f"({config.num_updates}), so that every round ends with an update of the actor"
        )
    for low, high in (("v_min", "v_max"), ("noise_min", "noise_max")):
        lowest, highest = getattr(config, low), getattr(config, high)
        if lowest > highest or (low == "v_min" and lowest == highest):
            raise UsageError(f"{low} is {lowest}; it must be below {high} ({highest})")
    networks.check(config.network, config.actor_sizes, config.critic_sizes)
    for name in ("actor_sizes", "critic_sizes"):
        if any(n < 1 for n in getattr(config, name)):
            raise UsageError(f"{name} {getattr(config, name)} has a width below 1")
    return config
