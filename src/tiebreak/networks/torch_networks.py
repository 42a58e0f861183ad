"""Networks in PyTorch."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import nn

from tiebreak.core.types import Array, EnvSpec
from tiebreak.ops.torch_ops import Categorical, Gaussian

ACTIVATIONS: dict[str, Callable] = {"tanh": torch.tanh, "relu": torch.relu}


class MLP(nn.Module):
    """Linear layers with an activation between them; x [B, sizes[0]] -> [B, sizes[-1]]."""

    def __init__(self, sizes: tuple[int, ...], activation: str, dtype: torch.dtype, device: str):
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.layers = nn.ModuleList(
            # skip_init: the weights come from the canonical dictionary.
            nn.utils.skip_init(nn.Linear, fan_in, fan_out, dtype=dtype, device=device)
            for fan_in, fan_out in itertools.pairwise(sizes)
        )

    def forward(self, x: Array) -> Array:
        """Apply every layer."""
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
        return last(x)


class Policy(nn.Module):
    """Stochastic policy: obs [B, observation_size] -> Categorical or Gaussian."""

    def __init__(
        self, spec: EnvSpec, hidden_sizes: tuple[int, ...], activation: str,
        dtype: torch.dtype = torch.float32, device: str = "cpu",
    ):  # fmt: skip
        super().__init__()
        sizes = (spec.observation_size, *hidden_sizes, spec.action_size)
        self.mlp = MLP(sizes, activation, dtype, device)
        self.log_std = None
        if not spec.discrete:
            self.log_std = nn.Parameter(torch.empty(spec.action_size, dtype=dtype, device=device))

    def forward(self, obs: Array) -> Categorical | Gaussian:
        """The distribution over actions."""
        out = self.mlp(obs)
        return Categorical(out) if self.log_std is None else Gaussian(out, self.log_std)


class Value(nn.Module):
    """State value: obs [B, observation_size] -> [B]."""

    def __init__(
        self, spec: EnvSpec, hidden_sizes: tuple[int, ...], activation: str,
        dtype: torch.dtype = torch.float32, device: str = "cpu",
    ):  # fmt: skip
        super().__init__()
        self.mlp = MLP((spec.observation_size, *hidden_sizes, 1), activation, dtype, device)

    def forward(self, obs: Array) -> Array:
        """The critic's estimate."""
        return self.mlp(obs)[..., 0]
