"""MPO's configuration and its reference values. Decision tags point into README.md."""

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
    """All of MPO's settings; the defaults are the reference, after Acme's example for JAX."""

    learning_starts: int = 1_000
    """Environment steps with uniformly random actions before the first update; whole iterations."""
    n_step: int = 4
    """Rewards that are summed before the value of the next state is added (n-step return)."""
    max_grad_norm: float = 40.0
    """Gradient norm above which gradients are scaled down, for actor and critics separately (D9);
    0: never."""
    learning_rate: float = 3e-4
    """Adam's step size for the policy and for the critics."""
    dual_lr: float = 1e-2
    """Adam's step size for the dual variables (D8)."""
    dual: Literal["gradient", "slsqp", "newton"] = "gradient"
    """Solver of the E-step's temperature: `gradient` takes one step of Adam per update; `slsqp`
    (SciPy, on the host) and `newton` (on the device) find the minimum for the batch (D4)."""
    num_samples: int = 20
    """Actions sampled from the target policy for each state (D2)."""
    epsilon: float = 0.1
    """Bound on the KL divergence of the reweighted samples from the target policy, in nats (D4)."""
    epsilon_penalty: float = 0.001
    """Bound on that divergence for the penalty on actions out of bounds; 0: no penalty (D5)."""
    epsilon_mean: float = 0.01
    """Bound on the KL divergence of a change of the policy's mean, per dimension (D6)."""
    epsilon_std: float = 1e-6
    """Bound on the KL divergence of a change of its standard deviation, per dimension (D6)."""
    init_log_temperature: float = 10.0
    """Initial temperature before softplus; only for dual="gradient" (D8)."""
    init_log_alpha_mean: float = 10.0
    """Initial multiplier of the mean's divergence, before softplus (D8)."""
    init_log_alpha_std: float = 1000.0
    """Initial multiplier of the standard deviation's divergence, before softplus (D8)."""
    target_period: int = 100
    """Updates between copies of actor and critics into the target networks (D10)."""
    num_critics: int = 1
    """Number of critics: 1, or 2, of which the smaller value is used (D2)."""
    network: str = "mlp"
    """Layers of every network: `mlp` (dense layers, D12), `cnn` (convolutions, then dense layers
    with ELU), which is the reference for images, `norm_mlp` and `norm_cnn` (with LayerNorm before
    every activation), or `simba` (a residual block for each of the sizes)."""
    hidden_sizes: tuple[int, ...] = (256, 256, 256)
    """Widths of the policy's hidden layers; LayerNorm and tanh after the first, ELU after the
    others (D12)."""
    critic_sizes: tuple[int, ...] = (256, 256, 256)
    """Widths of each critic's hidden layers."""
    init_std: float = 0.7
    """Standard deviation of the policy where its network's output is 0 (D12)."""

    @property
    def rows_per_pass(self) -> int:
        """Rows of the largest array that passes through a network: the critics' sampled actions."""
        return self.batch_size * self.num_samples

    @property
    def actor_layers(self) -> Layers:
        """Layers of the policy."""
        return Layers(self._kind, self.hidden_sizes, "elu")

    @property
    def critic_layers(self) -> Layers:
        """Layers of each critic."""
        return Layers(self._kind, self.critic_sizes, "elu")

    @property
    def _kind(self) -> str:
        return "layer_norm_mlp" if self.network == "mlp" else self.network  # D12

    @property
    def critics(self) -> tuple[str, ...]:
        """Names of the critics."""
        return tuple(f"critic{i + 1}" for i in range(self.num_critics))

    @property
    def dual_names(self) -> tuple[str, ...]:
        """Names of the trained dual variables, which do not include a solved temperature (D4)."""
        temperature = ("log_temperature",) if self.dual == "gradient" else ()
        return *temperature, "log_alpha_mean", "log_alpha_std"

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Networks by optimizer (D9)."""
        return {"actor": ("actor",), "critic": self.critics, "dual": ("dual",)}

    @property
    def targets(self) -> tuple[str, ...]:
        """Optimizers whose networks have targets; dual variables have none."""
        return "actor", "critic"

    @property
    def rates(self) -> dict[str, tuple[float, float]]:
        """Step size and largest gradient norm (0: any) by optimizer (D9)."""
        networks = self.learning_rate, self.max_grad_norm
        return {"actor": networks, "critic": networks, "dual": (self.dual_lr, 0.0)}

    @property
    def epsilons(self) -> tuple[float, ...]:
        """KL bounds of the objectives: Q, and the penalty if there is one."""
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
    """Return the reference settings for a box of actions. Raises UsageError for discrete ones."""
    off_policy.require_box("mpo", spec)
    return networks.for_observations(Config(), spec)


def jax_rl(spec: EnvSpec) -> Config:
    """Return sizes and constants of jax-rl (henry-prior/jax-rl); README.md lists differences."""
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
    """Raise UsageError if settings contradict one another; return `config`."""
    off_policy.check(config, RANGES)
    networks.check(config.network, config.hidden_sizes, config.critic_sizes)
    for name in ("hidden_sizes", "critic_sizes"):
        sizes = getattr(config, name)
        if not sizes or any(n < 1 for n in sizes):
            raise UsageError(f"{name} is {sizes}; it needs at least one width, and all above 0")
    return config
