"""PPO's configuration and its reference values. Decision tags point into README.md."""

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
    """All of PPO's settings; the defaults are the discrete reference (CartPole)."""

    total_steps: int = 500_000
    """Environment steps of the whole training, all environments together."""
    num_envs: int = 4
    """Environments stepped side by side."""
    env_processes: int = 1
    """Processes that step the environments, for engines in Python (gymnasium, dm_control); 1: the
    training's own process. Results do not depend on it."""
    num_steps: int = 128
    """Steps of each environment per iteration, which has num_envs * num_steps steps."""
    num_minibatches: int = 4
    """Minibatches per epoch; must divide num_envs * num_steps, with `gru` num_envs (D16)."""
    num_epochs: int = 4
    """Passes over the collected steps per iteration."""
    learning_rate: float = 2.5e-4
    """Adam's step size at the start."""
    anneal_lr: bool = True
    """Lower the learning rate linearly to 0 over total_steps, once per iteration (D9)."""
    gamma: float = 0.99
    """Discount per step."""
    gae_lambda: float = 0.95
    """λ of generalized advantage estimation (Schulman et al. 2016, eq. 16)."""
    clip: float = 0.2
    """ε of the clipped surrogate (Schulman et al. 2017, eq. 7) and of the value clip (D6)."""
    drift: Literal["clip", "dpo"] = "clip"
    """Rule that keeps the policy near the one that acted: `clip`, or `dpo`, a function found by
    meta-learning (Lu et al. 2022, section 5; D15)."""
    dpo_alpha: float = 2.0
    """α of `dpo`, for actions that were better than expected."""
    dpo_beta: float = 0.6
    """β of `dpo`, for actions that were worse."""
    clip_value: bool = True
    """Clip the change of the value, too (D6)."""
    entropy_coef: float = 0.01
    """Weight of the entropy bonus."""
    value_coef: float = 0.5
    """Weight of the value loss, which has a factor 1/2 itself (D6)."""
    max_grad_norm: float = 0.5
    """Global gradient norm above which gradients are scaled down (D8)."""
    normalize_advantage: bool = True
    """Normalize advantages to mean 0 and standard deviation 1 within each minibatch (D5)."""
    adam_eps: float = 1e-5
    """Adam's ε, added to the bias-corrected √v (D7)."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """`sgd` (no momentum) is for proofs: Adam's first step hides wrong factors."""
    prng: Literal["threefry2x32", "rbg", "unsafe_rbg"] = "threefry2x32"
    """JAX's random number generator. `rbg` is faster on GPUs and TPUs, but its numbers depend on
    the kind of device, and populations cannot use it. torch and TensorFlow have their own."""
    network: str = "mlp"
    """Layers of every network: `mlp` (dense layers), `cnn` (convolutions before them), which is the
    reference for images, `norm_mlp` and `norm_cnn` (the same with LayerNorm), or `simba` (a
    residual block for each of hidden_sizes). `gru` is a policy with memory (D14): dense layers,
    then a gated recurrent unit of the last of hidden_sizes."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers, the same for policy and value."""
    activation: Literal["tanh", "relu"] = "tanh"
    """Activation after every hidden layer."""
    log_std_init: float = 0.0
    """Initial log standard deviation of the Gaussian policy; continuous actions only (D3)."""
    normalize_obs: bool = False
    """Normalize observations to mean 0 and variance 1 by running statistics (D10)."""
    normalize_reward: bool = False
    """Divide rewards by the running standard deviation of the discounted return (D11)."""
    truncation: Literal["bootstrap", "terminal"] = "bootstrap"
    """Treatment of time limits: `bootstrap` adds the value of the next state (D4), `terminal`
    treats them as terminations, a mistake of several public codes."""

    @property
    def layers(self) -> Layers:
        """Layers of every network."""
        return Layers(self.network, self.hidden_sizes, self.activation)

    @property
    def recurrent(self) -> bool:
        """True if the policy has a memory (D14)."""
        return self.network in networks.RECURRENT

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
    "gae_lambda": (0.0, 1.0),
    "clip": (0.0, math.inf),
    "dpo_alpha": (1e-12, math.inf),
    "dpo_beta": (1e-12, math.inf),
    "entropy_coef": (0.0, math.inf),
    "value_coef": (0.0, math.inf),
    "max_grad_norm": (1e-12, math.inf),
    "adam_eps": (0.0, math.inf),
}
"""Lowest and highest valid values of the numbers that are not counts."""


CONTINUOUS: dict[str, Any] = {
    "total_steps": 1_000_000, "num_envs": 1, "num_steps": 2048, "num_minibatches": 32,
    "num_epochs": 10, "learning_rate": 3e-4, "entropy_coef": 0.0, "normalize_obs": True,
    "normalize_reward": True,
}  # fmt: skip
"""Settings for a box of actions."""
ATARI: dict[str, Any] = {"total_steps": 10_000_000, "num_envs": 8, "clip": 0.1}
"""Settings for discrete actions and images of bytes."""
MINATAR: dict[str, Any] = {
    "total_steps": 10_000_000, "num_envs": 64, "num_minibatches": 8, "learning_rate": 1e-3,
}  # fmt: skip
XMINIGRID: dict[str, Any] = {**MINATAR, "total_steps": 5_000_000}
CRAFTAX: dict[str, Any] = {
    "total_steps": 1_000_000_000, "num_envs": 1024, "num_steps": 64, "num_minibatches": 8,
    "learning_rate": 2e-4, "gae_lambda": 0.8, "max_grad_norm": 1.0,
}  # fmt: skip
CRAFTAX_SYMBOLIC: dict[str, Any] = {**CRAFTAX, "hidden_sizes": (512, 512, 512)}
MEMORY: dict[str, Any] = {
    "total_steps": 100_000, "num_envs": 64, "num_steps": 32, "learning_rate": 1e-3,
    "hidden_sizes": (128, 128), "activation": "relu",
}  # fmt: skip
"""Settings for short episodes that need a memory, with `network=gru`."""
TASKS = {
    "gymnax/Asterix-MinAtar": MINATAR,
    "gymnax/Breakout-MinAtar": MINATAR,
    "gymnax/Freeway-MinAtar": MINATAR,
    "gymnax/SpaceInvaders-MinAtar": MINATAR,
    "xminigrid/": XMINIGRID,
    "craftax/": CRAFTAX,
    "craftax/Craftax-Symbolic": CRAFTAX_SYMBOLIC,
    "craftax/Craftax-Classic-Symbolic": CRAFTAX_SYMBOLIC,
    "gymnax/MemoryChain-bsuite": MEMORY,
}
"""Settings by the beginning of a task's name; later rows override earlier ones.

MinAtar: PureJaxRL's batch, at a lower rate. Craftax: its authors' (Craftax_Baselines, ppo.py).
MemoryChain: the widths of PureJaxRL's recurrent network.
"""


def reference(spec: EnvSpec) -> Config:
    """Return the settings of "The 37 Implementation Details of PPO" for these spaces."""
    settings = ATARI if spec.pixels else {}
    config = Config(**(settings if spec.discrete else CONTINUOUS))
    return networks.for_observations(config, spec)


def check(config: Config) -> Config:
    """Raise UsageError if settings contradict one another; return `config`."""
    on_policy.check(config, RANGES, recurrent=True)
    if config.recurrent and config.num_envs % config.num_minibatches:
        raise UsageError(
            f"network {config.network!r} learns from whole environments: num_minibatches "
            f"({config.num_minibatches}) must divide num_envs ({config.num_envs}); e.g. "
            f"num_envs={config.num_minibatches}"
        )
    return config
