"""Networks in PyTorch, built on the meta device: `to_empty` gives them memory, on any device."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tiebreak.core.types import Array, EnvSpec
from tiebreak.frameworks.torch.ops import Categorical, Gaussian, SquashedGaussian

ACTIVATIONS: dict[str, Callable] = {"tanh": torch.tanh, "relu": torch.relu}
NORM_EPSILON = 1e-5
"""Layer normalization's ε, added to the biased variance; libraries' own are 1e-6, 1e-5, 1e-3."""


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
            x = self.activation(_dense(layer, x))
        return _dense(last, x)

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

    def names(self, prefix: str) -> list[str]:
        """Canonical names in the order of `parameters`: a module's own come before its parts'."""
        own = [] if self.log_std is None else [f"{prefix}/log_std"]
        return own + self.mlp.names(prefix)


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

    def names(self, prefix: str) -> list[str]:
        """Canonical names in the order of `parameters`."""
        return self.mlp.names(prefix)


class ActionValues(nn.Module):
    """Q of every discrete action: obs [B, observation_size] -> [B, num_actions]."""

    def __init__(
        self, spec: EnvSpec, hidden_sizes: tuple[int, ...], activation: str, dtype: torch.dtype
    ):
        super().__init__()
        self.mlp = MLP((spec.observation_size, *hidden_sizes, spec.action_size), activation, dtype)

    def forward(self, obs: Array) -> Array:
        """All actions' values."""
        return self.mlp(obs)

    def names(self, prefix: str) -> list[str]:
        """Canonical names in the order of `parameters`."""
        return self.mlp.names(prefix)


class Critic(nn.Module):
    """Q of one action: obs [B, observation_size], action [B, action_size] -> [B].

    With `atoms`, the logits of as many possible returns instead: [B, atoms].
    """

    def __init__(
        self,
        spec: EnvSpec,
        hidden_sizes: tuple[int, ...],
        activation: str,
        dtype: torch.dtype,
        atoms: int = 0,
    ):
        super().__init__()
        sizes = (spec.observation_size + spec.action_size, *hidden_sizes, atoms or 1)
        self.mlp = MLP(sizes, activation, dtype)
        self.atoms = atoms

    def forward(self, obs: Array, action: Array) -> Array:
        """The action's value."""
        out = self.mlp(torch.cat([obs, action], dim=-1))
        return out if self.atoms else out[..., 0]

    def names(self, prefix: str) -> list[str]:
        """Canonical names in the order of `parameters`."""
        return self.mlp.names(prefix)


class DeterministicPolicy(nn.Module):
    """One action per state: obs [B, observation_size] -> [B, action_size] in [-1, 1]."""

    def __init__(
        self, spec: EnvSpec, hidden_sizes: tuple[int, ...], activation: str, dtype: torch.dtype
    ):
        super().__init__()
        self.mlp = MLP((spec.observation_size, *hidden_sizes, spec.action_size), activation, dtype)

    def forward(self, obs: Array) -> Array:
        """The action."""
        return torch.tanh(self.mlp(obs))

    def names(self, prefix: str) -> list[str]:
        """Canonical names in the order of `parameters`."""
        return self.mlp.names(prefix)


class SquashedPolicy(nn.Module):
    """Stochastic policy over (-1, 1)^A: obs [B, observation_size] -> SquashedGaussian."""

    def __init__(
        self,
        spec: EnvSpec,
        hidden_sizes: tuple[int, ...],
        activation: str,
        log_std_range: tuple[float, float],
        dtype: torch.dtype,
    ):
        super().__init__()
        sizes = (spec.observation_size, *hidden_sizes, 2 * spec.action_size)
        self.mlp = MLP(sizes, activation, dtype)
        self.log_std_range = log_std_range

    def forward(self, obs: Array) -> SquashedGaussian:
        """The distribution over actions."""
        mean, raw = self.mlp(obs).chunk(2, dim=-1)
        low, high = self.log_std_range
        return SquashedGaussian(mean, low + 0.5 * (high - low) * (torch.tanh(raw) + 1.0))

    def names(self, prefix: str) -> list[str]:
        """Canonical names in the order of `parameters`."""
        return self.mlp.names(prefix)


class LayerNormMLP(nn.Module):
    """Linear, LayerNorm, tanh, then linear layers with ELU between; x [B, in] -> [B, sizes[-1]]."""

    def __init__(self, sizes: tuple[int, ...], dtype: torch.dtype):
        super().__init__()
        kind = {"dtype": dtype, "device": "meta"}
        self.layers = nn.ModuleList(nn.Linear(a, b, **kind) for a, b in itertools.pairwise(sizes))
        self.norm = nn.LayerNorm(sizes[1], eps=NORM_EPSILON, **kind)

    def forward(self, x: Array) -> Array:
        """Apply every layer."""
        first, *hidden, last = self.layers
        x = torch.tanh(self.norm(first(x)))
        for layer in hidden:
            x = nn.functional.elu(layer(x))
        return last(x)

    def names(self, prefix: str) -> list[str]:
        """Canonical names in the order of `parameters`."""
        dense = [f"{i}/{kind}" for i in range(len(self.layers)) for kind in ("kernel", "bias")]
        return [f"{prefix}/{name}" for name in (*dense, "norm/scale", "norm/bias")]


class LayerNormPolicy(nn.Module):
    """Gaussian policy with a std per state: obs [B, observation_size] -> Gaussian [B, A]."""

    def __init__(
        self, spec: EnvSpec, hidden_sizes: tuple[int, ...], init_std: float, dtype: torch.dtype
    ):
        super().__init__()
        sizes = (spec.observation_size, *hidden_sizes, 2 * spec.action_size)
        self.mlp = LayerNormMLP(sizes, dtype)
        self.init_std = init_std

    def forward(self, obs: Array) -> Gaussian:
        """The distribution over actions."""
        mean, raw = self.mlp(obs).chunk(2, dim=-1)
        softplus = nn.functional.softplus(raw, threshold=40.0)  # its own threshold costs 2e-9
        return Gaussian(mean, torch.log(softplus * (self.init_std / math.log(2.0)) + 1e-6))

    def names(self, prefix: str) -> list[str]:
        """Canonical names in the order of `parameters`."""
        return self.mlp.names(prefix)


class LayerNormCritic(nn.Module):
    """Q of one action: obs [B, observation_size], action [B, action_size] -> [B]."""

    def __init__(self, spec: EnvSpec, hidden_sizes: tuple[int, ...], dtype: torch.dtype):
        super().__init__()
        sizes = (spec.observation_size + spec.action_size, *hidden_sizes, 1)
        self.mlp = LayerNormMLP(sizes, dtype)

    def forward(self, obs: Array, action: Array) -> Array:
        """The action's value."""
        return self.mlp(torch.cat([obs, action], dim=-1))[..., 0]

    def names(self, prefix: str) -> list[str]:
        """Canonical names in the order of `parameters`."""
        return self.mlp.names(prefix)


def _dense(layer: Any, x: Array) -> Array:
    """A linear layer in the type of `x`; weights that are of another stay what they are."""
    if x.dtype == layer.weight.dtype:
        return layer(x)
    return nn.functional.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))
