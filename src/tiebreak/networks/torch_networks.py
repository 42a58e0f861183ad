"""Networks in PyTorch, built on the meta device: `to_empty` gives them memory, on any device."""

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

    def __init__(self, sizes: tuple[int, ...], activation: str, dtype: torch.dtype):
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.layers = nn.ModuleList(
            nn.Linear(fan_in, fan_out, dtype=dtype, device="meta")
            for fan_in, fan_out in itertools.pairwise(sizes)
        )

    def forward(self, x: Array) -> Array:
        """Apply every layer."""
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
        return last(x)

    def names(self, prefix: str) -> list[str]:
        """Canonical names in the order of `parameters`."""
        layers = range(len(self.layers))
        return [f"{prefix}/{i}/{kind}" for i in layers for kind in ("kernel", "bias")]


class Policy(nn.Module):
    """Stochastic policy: obs [B, observation_size] -> Categorical or Gaussian."""

    def __init__(
        self, spec: EnvSpec, hidden_sizes: tuple[int, ...], activation: str, dtype: torch.dtype
    ):
        super().__init__()
        sizes = (spec.observation_size, *hidden_sizes, spec.action_size)
        self.mlp = MLP(sizes, activation, dtype)
        self.log_std = None
        if not spec.discrete:
            self.log_std = nn.Parameter(torch.empty(spec.action_size, dtype=dtype, device="meta"))

    def forward(self, obs: Array) -> Categorical | Gaussian:
        """The distribution over actions."""
        out = self.mlp(obs)
        if self.log_std is None:
            return Categorical(torch.log_softmax(out, dim=-1))
        return Gaussian(out, self.log_std)

    def names(self) -> list[str]:
        """Canonical names in the order of `parameters`: a module's own come before its parts'."""
        own = [] if self.log_std is None else ["actor/log_std"]
        return own + self.mlp.names("actor")


class Value(nn.Module):
    """State value: obs [B, observation_size] -> [B]."""

    def __init__(
        self, spec: EnvSpec, hidden_sizes: tuple[int, ...], activation: str, dtype: torch.dtype
    ):
        super().__init__()
        self.mlp = MLP((spec.observation_size, *hidden_sizes, 1), activation, dtype)

    def forward(self, obs: Array) -> Array:
        """The critic's estimate."""
        return self.mlp(obs)[..., 0]

    def names(self) -> list[str]:
        """Canonical names in the order of `parameters`."""
        return self.mlp.names("critic")
