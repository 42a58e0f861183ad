"""MPO's configuration and its reference values. Decision tags point into README.md."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tiebreak.core import off_policy
from tiebreak.core.errors import UsageError
from tiebreak.core.off_policy import OffPolicyConfig
from tiebreak.core.types import EnvSpec


@dataclass(frozen=True)
class Config(OffPolicyConfig):
    """All of MPO's settings; the defaults are the reference, after Acme's."""

    learning_starts: int = 1_000
    """Environment steps with uniformly random actions before the first update; whole iterations."""
    n_step: int = 4
    """Rewards that are summed up before the value of what follows is taken."""
    max_grad_norm: float = 40.0
    """Gradient norm above which the actor's and the critics' gradients, each, are scaled down (D9);
    0: never."""
    learning_rate: float = 3e-4
    """Adam's step size for the policy and for the critics."""
    dual_lr: float = 1e-2
    """Adam's step size for the dual variables (D8)."""
    dual: Literal["gradient", "slsqp", "newton"] = "gradient"
    """How the temperature of the E-step is found: one step of Adam per update, or the minimum for
    the batch, by SciPy on the host or by Newton on the device (D4)."""
    num_samples: int = 20
    """Actions sampled from the target policy for each state (D2)."""
    epsilon: float = 0.1
    """KL divergence from the target policy that the reweighting of its samples may have."""
    epsilon_penalty: float = 0.001
    """The same for reweighting by how far actions are out of bounds; 0: no penalty (D5)."""
    epsilon_mean: float = 0.01
    """KL divergence that a change of the policy's mean may have, per dimension (D6)."""
    epsilon_std: float = 1e-6
    """The same for its standard deviation."""
    init_log_temperature: float = 10.0
    """The temperature at first, before softplus; with dual="gradient" only (D8)."""
    init_log_alpha_mean: float = 10.0
    """What a divergence of the mean costs at first, before softplus."""
    init_log_alpha_std: float = 1000.0
    """What a divergence of the standard deviation costs at first, before softplus."""
    target_period: int = 100
    """Updates between copies of actor and critics into the target networks (D10)."""
    num_critics: int = 1
    """1, or 2 of which the smaller value counts (D2)."""
    hidden_sizes: tuple[int, ...] = (256, 256, 256)
    """Widths of the policy's hidden layers; LayerNorm and tanh after the first, ELU after the
    others (D12)."""
    critic_sizes: tuple[int, ...] = (256, 256, 256)
    """Widths of each critic's hidden layers."""
    init_std: float = 0.7
    """The policy's standard deviation where the network gives 0 (D12)."""

    @property
    def critics(self) -> tuple[str, ...]:
        """Names of the critics."""
        return tuple(f"critic{i + 1}" for i in range(self.num_critics))

    @property
    def dual_names(self) -> tuple[str, ...]:
        """The dual variables that are trained; a temperature that is solved for is none (D4)."""
        temperature = ("log_temperature",) if self.dual == "gradient" else ()
        return *temperature, "log_alpha_mean", "log_alpha_std"

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Optimizer -> what it trains (D9)."""
        return {"actor": ("actor",), "critic": self.critics, "dual": ("dual",)}

    @property
    def targets(self) -> tuple[str, ...]:
        """The optimizers that train networks, which have targets; dual variables have none."""
        return "actor", "critic"

    @property
    def rates(self) -> dict[str, tuple[float, float]]:
        """Optimizer -> step size, norm above which its gradient is clipped (D9)."""
        networks = self.learning_rate, self.max_grad_norm
        return {"actor": networks, "critic": networks, "dual": (self.dual_lr, 0.0)}

    @property
    def epsilons(self) -> tuple[float, ...]:
        """KL bounds of the objectives: the value, and the penalty if there is one."""
        return (self.epsilon, self.epsilon_penalty) if self.epsilon_penalty else (self.epsilon,)


RANGES = {
    "learning_rate": (0.0, math.inf),
    "dual_lr": (0.0, math.inf),
    "epsilon": (1e-12, math.inf),
    "epsilon_penalty": (0.0, math.inf),
    "epsilon_mean": (0.0, math.inf),
    "epsilon_std": (0.0, math.inf),
    "num_samples": (2, math.inf),
    "num_critics": (1, 2),
    "init_std": (1e-6, math.inf),
}
"""Lowest and highest valid values of the numbers that are not counts."""


def reference(spec: EnvSpec) -> Config:
    """The reference settings for this action space; UsageError if it is discrete."""
    if spec.discrete:
        raise UsageError("mpo needs continuous actions; for discrete ones use dqn or ppo")
    return Config()


def jax_rl(spec: EnvSpec) -> Config:
    """jax-rl's sizes and constants (henry-prior/jax-rl) in this MPO; what differs is in README."""
    reference(spec)
    return Config(
        learning_starts=10_000,
        n_step=1,
        dual="slsqp",
        epsilon_penalty=0.0,
        epsilon_mean=5e-4,
        epsilon_std=1e-5,
        init_log_alpha_mean=math.log(math.expm1(1.0)),  # softplus of it is 1
        init_log_alpha_std=100.0,
        dual_lr=3e-4,
        target_period=250,
        num_critics=2,
        hidden_sizes=(200, 200),
        critic_sizes=(500, 500),
    )


def check(config: Config) -> Config:
    """Raise UsageError where settings contradict one another; return `config`."""
    off_policy.check(config, RANGES)
    for name in ("hidden_sizes", "critic_sizes"):
        sizes = getattr(config, name)
        if not sizes or any(n < 1 for n in sizes):
            raise UsageError(f"{name} is {sizes}; it needs at least one width, and all above 0")
    return config
