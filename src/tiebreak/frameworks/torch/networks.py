"""Networks in PyTorch, built on the meta device: `to_empty` gives them memory, on any device.

`names(prefix)` of a network are its canonical names in the order of its `parameters()`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tiebreak.core.types import Array, EnvSpec
from tiebreak.frameworks.torch.ops import Categorical, Gaussian, SquashedGaussian

ACTIVATIONS: dict[str, Callable] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "elu": nn.functional.elu,
}
NORM_EPSILON = 1e-5
"""Layer normalization's ε, added to the biased variance; libraries default to 1e-6, 1e-5, 1e-3."""


class MLP(nn.Module):
    """Linear layers with an activation between them; x [B, sizes[0]] -> [B, sizes[-1]]."""

    def __init__(self, sizes: tuple[int, ...], activation: str, dtype: torch.dtype):
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.layers = _linear_layers(sizes, dtype)

    def forward(self, x: Array) -> Array:
        """Apply every layer."""
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(_dense(layer, x))
        return _dense(last, x)

    def names(self, prefix: str) -> list[str]:
        """Return canonical names in the order of `parameters`."""
        return _linear_names(prefix, len(self.layers))


class LayerNormMLP(nn.Module):
    """Linear, LayerNorm, tanh, then linear layers with an activation between them."""

    def __init__(self, sizes: tuple[int, ...], activation: str, dtype: torch.dtype):
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.layers = _linear_layers(sizes, dtype)
        self.norm = nn.LayerNorm(sizes[1], eps=NORM_EPSILON, dtype=dtype, device="meta")

    def forward(self, x: Array) -> Array:
        """Apply every layer."""
        first, *hidden, last = self.layers
        x = torch.tanh(self.norm(first(x)))
        for layer in hidden:
            x = self.activation(layer(x))
        return last(x)

    def names(self, prefix: str) -> list[str]:
        """Return canonical names in the order of `parameters`."""
        norm = [f"{prefix}/norm/scale", f"{prefix}/norm/bias"]
        return _linear_names(prefix, len(self.layers)) + norm


TORSOS: dict[str, Callable] = {"mlp": MLP, "layer_norm_mlp": LayerNormMLP}
"""Layers between a network's inputs and outputs, by name."""


def make_torso(
    kind: str, sizes: tuple[int, ...], activation: str, dtype: torch.dtype
) -> MLP | LayerNormMLP:
    """Return the layers of a network: x [B, sizes[0]] -> [B, sizes[-1]]; `kind` is of TORSOS."""
    return TORSOS[kind](sizes, activation, dtype)


class Policy(nn.Module):
    """Stochastic policy: obs [B, observation_size] -> Categorical or Gaussian."""

    def __init__(
        self, spec: EnvSpec, hidden_sizes: tuple[int, ...], activation: str, dtype: torch.dtype
    ):
        super().__init__()
        sizes = (spec.observation_size, *hidden_sizes, spec.action_size)
        self.torso = make_torso("mlp", sizes, activation, dtype)
        self.log_std = None
        if not spec.discrete:
            self.log_std = nn.Parameter(torch.empty(spec.action_size, dtype=dtype, device="meta"))

    def forward(self, obs: Array) -> Categorical | Gaussian:
        """Return the distribution over actions."""
        out = self.torso(obs)
        if self.log_std is None:
            return Categorical(torch.log_softmax(out, dim=-1))
        return Gaussian(out, self.log_std)

    def names(self, prefix: str) -> list[str]:
        """Return canonical names in the order of `parameters`: log_std, then those of layers."""
        log_std = [] if self.log_std is None else [f"{prefix}/log_std"]
        return log_std + self.torso.names(prefix)


class Value(nn.Module):
    """State value: obs [B, observation_size] -> [B]."""

    def __init__(
        self, spec: EnvSpec, hidden_sizes: tuple[int, ...], activation: str, dtype: torch.dtype
    ):
        super().__init__()
        sizes = (spec.observation_size, *hidden_sizes, 1)
        self.torso = make_torso("mlp", sizes, activation, dtype)

    def forward(self, obs: Array) -> Array:
        """Return the critic's estimates."""
        return self.torso(obs)[..., 0]

    def names(self, prefix: str) -> list[str]:
        """Return canonical names in the order of `parameters`."""
        return self.torso.names(prefix)


class ActionValues(nn.Module):
    """Q of every discrete action: obs [B, observation_size] -> [B, num_actions]."""

    def __init__(
        self, spec: EnvSpec, hidden_sizes: tuple[int, ...], activation: str, dtype: torch.dtype
    ):
        super().__init__()
        sizes = (spec.observation_size, *hidden_sizes, spec.action_size)
        self.torso = make_torso("mlp", sizes, activation, dtype)

    def forward(self, obs: Array) -> Array:
        """Return the values of all actions."""
        return self.torso(obs)

    def names(self, prefix: str) -> list[str]:
        """Return canonical names in the order of `parameters`."""
        return self.torso.names(prefix)


class Critic(nn.Module):
    """Q of one action: obs [B, observation_size], action [B, action_size] -> [B].

    With `atoms`, it returns the logits of as many possible returns instead: [B, atoms].
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
        self.torso = make_torso("mlp", sizes, activation, dtype)
        self.atoms = atoms

    def forward(self, obs: Array, action: Array) -> Array:
        """Return the values of the actions, or logits of their returns."""
        out = self.torso(torch.cat([obs, action], dim=-1))
        return out if self.atoms else out[..., 0]

    def names(self, prefix: str) -> list[str]:
        """Return canonical names in the order of `parameters`."""
        return self.torso.names(prefix)


class DeterministicPolicy(nn.Module):
    """One action per state: obs [B, observation_size] -> [B, action_size] in [-1, 1]."""

    def __init__(
        self, spec: EnvSpec, hidden_sizes: tuple[int, ...], activation: str, dtype: torch.dtype
    ):
        super().__init__()
        sizes = (spec.observation_size, *hidden_sizes, spec.action_size)
        self.torso = make_torso("mlp", sizes, activation, dtype)

    def forward(self, obs: Array) -> Array:
        """Return the actions."""
        return torch.tanh(self.torso(obs))

    def names(self, prefix: str) -> list[str]:
        """Return canonical names in the order of `parameters`."""
        return self.torso.names(prefix)


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
        self.torso = make_torso("mlp", sizes, activation, dtype)
        self.log_std_range = log_std_range

    def forward(self, obs: Array) -> SquashedGaussian:
        """Return the distribution over actions."""
        mean, raw = self.torso(obs).chunk(2, dim=-1)
        low, high = self.log_std_range
        return SquashedGaussian(mean, low + 0.5 * (high - low) * (torch.tanh(raw) + 1.0))

    def names(self, prefix: str) -> list[str]:
        """Return canonical names in the order of `parameters`."""
        return self.torso.names(prefix)


class LayerNormPolicy(nn.Module):
    """Gaussian policy with a std per state: obs [B, observation_size] -> Gaussian [B, A]."""

    def __init__(
        self, spec: EnvSpec, hidden_sizes: tuple[int, ...], init_std: float, dtype: torch.dtype
    ):
        super().__init__()
        sizes = (spec.observation_size, *hidden_sizes, 2 * spec.action_size)
        self.torso = make_torso("layer_norm_mlp", sizes, "elu", dtype)
        self.init_std = init_std

    def forward(self, obs: Array) -> Gaussian:
        """Return the distribution over actions."""
        mean, raw = self.torso(obs).chunk(2, dim=-1)
        softplus = nn.functional.softplus(raw, threshold=40.0)  # 20, the default, costs 2e-9
        return Gaussian(mean, torch.log(softplus * (self.init_std / math.log(2.0)) + 1e-6))

    def names(self, prefix: str) -> list[str]:
        """Return canonical names in the order of `parameters`."""
        return self.torso.names(prefix)


class LayerNormCritic(nn.Module):
    """Q of one action: obs [B, observation_size], action [B, action_size] -> [B]."""

    def __init__(self, spec: EnvSpec, hidden_sizes: tuple[int, ...], dtype: torch.dtype):
        super().__init__()
        sizes = (spec.observation_size + spec.action_size, *hidden_sizes, 1)
        self.torso = make_torso("layer_norm_mlp", sizes, "elu", dtype)

    def forward(self, obs: Array, action: Array) -> Array:
        """Return the values of the actions."""
        return self.torso(torch.cat([obs, action], dim=-1))[..., 0]

    def names(self, prefix: str) -> list[str]:
        """Return canonical names in the order of `parameters`."""
        return self.torso.names(prefix)


def _linear_layers(sizes: tuple[int, ...], dtype: torch.dtype) -> nn.ModuleList:
    return nn.ModuleList(
        nn.Linear(fan_in, fan_out, dtype=dtype, device="meta")
        for fan_in, fan_out in itertools.pairwise(sizes)
    )


def _linear_names(prefix: str, layers: int) -> list[str]:
    return [f"{prefix}/{i}/{kind}" for i in range(layers) for kind in ("kernel", "bias")]


def _dense(layer: Any, x: Array) -> Array:
    """Apply a linear layer in the type of `x`; weights of another type are cast and not changed."""
    if x.dtype == layer.weight.dtype:
        return layer(x)
    return nn.functional.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))
