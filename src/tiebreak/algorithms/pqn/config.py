"""PQN's configuration and its reference values. Decision tags point into README.md."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from tiebreak.core import networks, on_policy
from tiebreak.core.errors import UsageError
from tiebreak.core.networks import Layers
from tiebreak.core.types import EnvSpec


@dataclass(frozen=True)
class Config:
    """All of PQN's settings; the defaults are the reference (CartPole, Acrobot)."""

    total_steps: int = 500_000
    """Environment steps of the whole training, all environments together."""
    num_envs: int = 32
    """Environments stepped side by side."""
    env_processes: int = 1
    """Processes that step the environments, for engines in Python (gymnasium, dm_control); 1: the
    training's own process. Results do not depend on it."""
    num_steps: int = 64
    """Steps of each environment per iteration, which has num_envs * num_steps steps."""
    num_minibatches: int = 16
    """Minibatches per epoch; must divide num_envs * num_steps."""
    num_epochs: int = 4
    """Passes over the collected steps per iteration."""
    learning_rate: float = 1e-4
    """RAdam's step size at the start."""
    anneal_lr: bool = True
    """Lower the learning rate linearly to 0 over total_steps, with every update (D6)."""
    gamma: float = 0.99
    """Discount per step."""
    q_lambda: float = 0.95
    """λ of the λ-returns: 0 is one step, 1 the sum of the rewards to the rollout's end (D2)."""
    reward_scale: float = 0.1
    """Factor of the rewards that are learned from; returns are reported without it (D9)."""
    epsilon_start: float = 1.0
    """Share of random actions ε in the first iteration (D1)."""
    epsilon_end: float = 0.2
    """Share of random actions ε after the exploration (D1)."""
    exploration_fraction: float = 0.2
    """Share of the iterations over which ε falls linearly (D1)."""
    max_grad_norm: float = 10.0
    """Global gradient norm above which gradients are scaled down (D5)."""
    adam_eps: float = 1e-8
    """RAdam's and Adam's ε, added to the bias-corrected √v (D5)."""
    optimizer: Literal["radam", "adam", "sgd"] = "radam"
    """Rectified Adam, Adam, or `sgd` (no momentum), which is for proofs: Adam's first step hides
    wrong factors."""
    prng: Literal["threefry2x32", "rbg", "unsafe_rbg"] = "threefry2x32"
    """JAX's random number generator. `rbg` is faster on GPUs and TPUs, but its numbers depend on
    the kind of device, and populations cannot use it. torch and TensorFlow have their own."""
    network: str = "norm_mlp"
    """Layers of the network: `norm_mlp` (dense layers with LayerNorm, D7), `norm_cnn` (with
    convolutions before them), which is the reference for images, `mlp` or `cnn` (without
    LayerNorm), or `simba` (a residual block for each of hidden_sizes)."""
    hidden_sizes: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers."""
    activation: Literal["tanh", "relu"] = "relu"
    """Activation after every hidden layer."""
    normalize_obs: bool = False
    """Normalize observations to mean 0 and variance 1 by running statistics (D10)."""
    truncation: Literal["bootstrap", "terminal"] = "bootstrap"
    """Treatment of time limits: `bootstrap` adds the value of the next state (D3), `terminal`
    treats them as terminations, as the authors' code does."""

    @property
    def layers(self) -> Layers:
        """Layers of the network."""
        return Layers(self.network, self.hidden_sizes, self.activation)

    @property
    def batch_size(self) -> int:
        """Environment steps per iteration."""
        return self.num_envs * self.num_steps

    @property
    def rows_per_pass(self) -> int:
        """Rows of the largest array that passes through a network in an update: a minibatch."""
        return self.batch_size // self.num_minibatches

    @property
    def iteration_steps(self) -> int:
        """Environment steps per iteration; the name that all algorithms share."""
        return self.batch_size

    @property
    def num_iterations(self) -> int:
        """Iterations of the whole training, at least 1."""
        return max(1, self.total_steps // self.batch_size)

    @property
    def updates_per_iteration(self) -> int:
        """Gradient steps per iteration."""
        return self.num_epochs * self.num_minibatches

    @property
    def updates_per_step(self) -> int:
        """Gradient steps per call of the agent's `step`."""
        return self.updates_per_iteration


RANGES = {
    "learning_rate": (0.0, math.inf),
    "gamma": (0.0, 1.0),
    "q_lambda": (0.0, 1.0),
    "reward_scale": (0.0, math.inf),
    "epsilon_start": (0.0, 1.0),
    "epsilon_end": (0.0, 1.0),
    "exploration_fraction": (0.0, 1.0),
    "max_grad_norm": (1e-12, math.inf),
    "adam_eps": (0.0, math.inf),
}
"""Lowest and highest valid values of the numbers that are not counts."""


MINATAR: dict[str, Any] = {
    "total_steps": 10_000_000, "num_envs": 128, "num_steps": 32, "num_minibatches": 32,
    "num_epochs": 2, "learning_rate": 5e-4, "q_lambda": 0.65, "reward_scale": 1.0,
    "epsilon_end": 0.05, "exploration_fraction": 0.1,
}  # fmt: skip
TASKS = {
    "gymnax/Asterix-MinAtar": MINATAR,
    "gymnax/Breakout-MinAtar": MINATAR,
    "gymnax/Freeway-MinAtar": MINATAR,
    "gymnax/SpaceInvaders-MinAtar": MINATAR,
}
"""Settings by the beginning of a task's name: the authors' for MinAtar."""
ATARI: dict[str, Any] = {
    **MINATAR, "total_steps": 50_000_000, "learning_rate": 2.5e-4, "anneal_lr": False,
    "epsilon_end": 0.001,
}  # fmt: skip
"""The authors' settings for images of bytes."""


def reference(spec: EnvSpec) -> Config:
    """Return the reference settings for discrete actions.

    Raises UsageError for a box, over which PQN cannot take the maximum, and for several discrete
    actions at once.
    """
    if not spec.discrete:
        raise UsageError("pqn needs discrete actions; for a box use td3, sac, mpo or ppo")
    if spec.nvec is not None:
        raise UsageError(
            f"pqn needs one discrete action; for {len(spec.nvec)} at once (MultiDiscrete) use ppo"
        )
    config = Config(**ATARI) if spec.pixels else Config()
    return networks.for_observations(config, spec)


def check(config: Config) -> Config:
    """Raise UsageError if settings contradict one another; return `config`."""
    on_policy.check(config, RANGES)
    return config
