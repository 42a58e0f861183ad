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

from tiebreak.core.networks import (
    EXPANSION,
    Layers,
    convolutions,
    dense_sizes,
    gru_sizes,
    is_own,
)
from tiebreak.core.types import Array, EnvSpec
from tiebreak.frameworks.torch.ops import (
    Categorical,
    Gaussian,
    MultiCategorical,
    SquashedGaussian,
    at_least_float32,
    categorical,
    gru,
)
from tiebreak.frameworks.torch.own_network import OwnNetwork

ACTIVATIONS: dict[str, Callable] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "elu": nn.functional.elu,
    "silu": nn.functional.silu,
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
        return _linear_names(prefix, len(self.layers)) + _norm_names(prefix)


class NormMLP(nn.Module):
    """Linear layers with LayerNorm and an activation between them."""

    def __init__(self, sizes: tuple[int, ...], activation: str, dtype: torch.dtype):
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        *hidden, last = _linear_layers(sizes, dtype)
        self.hidden = nn.ModuleList(
            _Normed(layer, width, _dense, dtype)
            for layer, width in zip(hidden, sizes[1:-1], strict=True)
        )
        self.last = last

    def forward(self, x: Array) -> Array:
        """Apply every layer."""
        for layer in self.hidden:
            x = self.activation(layer(x))
        return _dense(self.last, x)

    def names(self, prefix: str) -> list[str]:
        """Return canonical names in the order of `parameters`."""
        return _normed_names(prefix, self.hidden) + _layer_names(f"{prefix}/{len(self.hidden)}")


class ResidualBlock(nn.Module):
    """x plus what LayerNorm, a wide dense layer, an activation and a dense layer make of it."""

    def __init__(self, width: int, activation: str, dtype: torch.dtype):
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.layers = _linear_layers((width, EXPANSION * width, width), dtype)
        self.norm = nn.LayerNorm(width, eps=NORM_EPSILON, dtype=dtype, device="meta")

    def forward(self, x: Array) -> Array:
        """Apply the block."""
        wide, narrow = self.layers
        return x + _dense(narrow, self.activation(_dense(wide, _normalize(self.norm, x))))

    def names(self, prefix: str) -> list[str]:
        """Return canonical names in the order of `parameters`."""
        return _linear_names(prefix, 2) + _norm_names(prefix)


class SimBa(nn.Module):
    """A dense layer, residual blocks, LayerNorm and a dense layer (Lee et al. 2024)."""

    def __init__(self, sizes: tuple[int, ...], activation: str, dtype: torch.dtype):
        super().__init__()
        inputs, *widths, outputs = sizes
        self.layers = _linear_layers((inputs, widths[0], outputs), dtype)
        self.block = nn.ModuleList(ResidualBlock(width, activation, dtype) for width in widths)
        self.norm = nn.LayerNorm(widths[0], eps=NORM_EPSILON, dtype=dtype, device="meta")

    def forward(self, x: Array) -> Array:
        """Apply every layer."""
        first, last = self.layers
        x = _dense(first, x)
        for block in self.block:
            x = block(x)
        return _dense(last, _normalize(self.norm, x))

    def names(self, prefix: str) -> list[str]:
        """Return canonical names in the order of `parameters`."""
        names = _linear_names(prefix, 2)
        for i, block in enumerate(self.block):
            names += block.names(f"{prefix}/block/{i}")
        return names + _norm_names(prefix)


class CNN(nn.Module):
    """Convolutions over the image that x begins with, then dense layers over that and the rest.

    x [..., sizes[0]] -> [..., sizes[-1]]; `shape` is the image's, [height, width, channels].
    """

    def __init__(
        self, shape: tuple[int, ...], sizes: tuple[int, ...], activation: str, dtype: torch.dtype
    ):
        super().__init__()
        self.shape = shape
        self.activation = ACTIVATIONS[activation]
        self.conv = _conv_layers(shape, dtype)
        self.dense = MLP(dense_sizes("cnn", shape, sizes), activation, dtype)

    def forward(self, x: Array) -> Array:
        """Apply every layer."""
        size = math.prod(self.shape)
        image = x[..., :size].reshape(-1, *self.shape).permute(0, 3, 1, 2)  # torch: [B, C, H, W]
        for layer in self.conv:
            image = self.activation(_convolve(layer, image))
        seen = flatten_image(image.permute(0, 2, 3, 1)).reshape(*x.shape[:-1], -1)
        return self.dense(torch.cat([seen, x[..., size:]], dim=-1))

    def names(self, prefix: str) -> list[str]:
        """Return canonical names in the order of `parameters`."""
        return _linear_names(f"{prefix}/conv", len(self.conv)) + self.dense.names(prefix)


class NormCNN(nn.Module):
    """A CNN with LayerNorm before each activation; of an image, over the channels of each pixel.

    x [..., sizes[0]] -> [..., sizes[-1]]; `shape` is the image's, [height, width, channels].
    """

    def __init__(
        self, shape: tuple[int, ...], sizes: tuple[int, ...], activation: str, dtype: torch.dtype
    ):
        super().__init__()
        self.shape = shape
        self.activation = ACTIVATIONS[activation]
        self.conv = nn.ModuleList(
            _Normed(layer, conv.channels, _convolve_last, dtype)
            for layer, conv in zip(_conv_layers(shape, dtype), convolutions(shape), strict=True)
        )
        self.dense = NormMLP(dense_sizes("norm_cnn", shape, sizes), activation, dtype)

    def forward(self, x: Array) -> Array:
        """Apply every layer."""
        size = math.prod(self.shape)
        image = x[..., :size].reshape(-1, *self.shape)
        for layer in self.conv:
            image = self.activation(layer(image))
        seen = flatten_image(image).reshape(*x.shape[:-1], -1)
        return self.dense(torch.cat([seen, x[..., size:]], dim=-1))

    def names(self, prefix: str) -> list[str]:
        """Return canonical names in the order of `parameters`."""
        return _normed_names(f"{prefix}/conv", self.conv) + self.dense.names(prefix)


def flatten_image(image: Array) -> Array:
    """Flatten images [B, H, W, C] to [B, H·W·C], channels fastest."""
    return image.reshape(len(image), -1)


TORSOS: dict[str, Callable] = {
    "mlp": MLP,
    "layer_norm_mlp": LayerNormMLP,
    "norm_mlp": NormMLP,
    "simba": SimBa,
}
"""Layers between a network's inputs and outputs, by name."""
IMAGE_TORSOS: dict[str, Callable] = {"cnn": CNN, "norm_cnn": NormCNN}
"""Those that need the image's shape, too."""


def make_torso(
    layers: Layers, shape: tuple[int, ...], sizes: tuple[int, ...], dtype: torch.dtype
) -> MLP | LayerNormMLP | NormMLP | SimBa | CNN | NormCNN | OwnNetwork:
    """Return the layers of a network: x [B, sizes[0]] -> [B, sizes[-1]].

    `shape` is that of observations, with which x begins.
    """
    if is_own(layers.kind):
        return OwnNetwork(layers.kind, sizes, dtype)
    if layers.kind in IMAGE_TORSOS:
        return IMAGE_TORSOS[layers.kind](shape, sizes, layers.activation, dtype)
    return TORSOS[layers.kind](sizes, layers.activation, dtype)


class Policy(nn.Module):
    """Stochastic policy: obs [B, observation_size] -> distribution over actions."""

    def __init__(self, spec: EnvSpec, layers: Layers, dtype: torch.dtype):
        super().__init__()
        sizes = (spec.observation_size, *layers.sizes, spec.action_size)
        self.torso = make_torso(layers, spec.observation_shape, sizes, dtype)
        self.nvec, self.log_std = spec.nvec, None
        if not spec.discrete:
            self.log_std = nn.Parameter(torch.empty(spec.action_size, dtype=dtype, device="meta"))

    def forward(self, obs: Array) -> Categorical | MultiCategorical | Gaussian:
        """Return the distribution over actions."""
        out = self.torso(obs)
        if self.log_std is None:
            return categorical(out, self.nvec)
        return Gaussian(out, self.log_std)

    def names(self, prefix: str) -> list[str]:
        """Return canonical names in the order of `parameters`: log_std, then those of layers."""
        log_std = [] if self.log_std is None else [f"{prefix}/log_std"]
        return log_std + self.torso.names(prefix)


class Value(nn.Module):
    """State value: obs [B, observation_size] -> [B]."""

    def __init__(self, spec: EnvSpec, layers: Layers, dtype: torch.dtype):
        super().__init__()
        sizes = (spec.observation_size, *layers.sizes, 1)
        self.torso = make_torso(layers, spec.observation_shape, sizes, dtype)

    def forward(self, obs: Array) -> Array:
        """Return the critic's estimates."""
        return self.torso(obs)[..., 0]

    def names(self, prefix: str) -> list[str]:
        """Return canonical names in the order of `parameters`."""
        return self.torso.names(prefix)


class ActionValues(nn.Module):
    """Q of every discrete action: obs [B, observation_size] -> [B, num_actions].

    With more than one of `atoms`, the logits of as many possible returns instead:
    [B, num_actions, atoms].
    """

    def __init__(self, spec: EnvSpec, layers: Layers, dtype: torch.dtype, atoms: int = 1):
        super().__init__()
        sizes = (spec.observation_size, *layers.sizes, spec.action_size * atoms)
        self.torso = make_torso(layers, spec.observation_shape, sizes, dtype)
        self.atoms = atoms

    def forward(self, obs: Array) -> Array:
        """Return the values of all actions, or logits of their returns."""
        out = self.torso(obs)
        return out if self.atoms == 1 else out.unflatten(-1, (-1, self.atoms))

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
        layers: Layers,
        dtype: torch.dtype,
        atoms: int = 0,
    ):
        super().__init__()
        sizes = (spec.observation_size + spec.action_size, *layers.sizes, atoms or 1)
        self.torso = make_torso(layers, spec.observation_shape, sizes, dtype)
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

    def __init__(self, spec: EnvSpec, layers: Layers, dtype: torch.dtype):
        super().__init__()
        sizes = (spec.observation_size, *layers.sizes, spec.action_size)
        self.torso = make_torso(layers, spec.observation_shape, sizes, dtype)

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
        layers: Layers,
        log_std_range: tuple[float, float],
        dtype: torch.dtype,
    ):
        super().__init__()
        sizes = (spec.observation_size, *layers.sizes, 2 * spec.action_size)
        self.torso = make_torso(layers, spec.observation_shape, sizes, dtype)
        self.log_std_range = log_std_range

    def forward(self, obs: Array) -> SquashedGaussian:
        """Return the distribution over actions."""
        mean, raw = at_least_float32(self.torso(obs)).chunk(2, dim=-1)
        low, high = self.log_std_range
        return SquashedGaussian(mean, low + 0.5 * (high - low) * (torch.tanh(raw) + 1.0))

    def names(self, prefix: str) -> list[str]:
        """Return canonical names in the order of `parameters`."""
        return self.torso.names(prefix)


class ScaledPolicy(nn.Module):
    """Gaussian policy with a std per state: obs [B, observation_size] -> Gaussian [B, A]."""

    def __init__(self, spec: EnvSpec, layers: Layers, init_std: float, dtype: torch.dtype):
        super().__init__()
        sizes = (spec.observation_size, *layers.sizes, 2 * spec.action_size)
        self.torso = make_torso(layers, spec.observation_shape, sizes, dtype)
        self.init_std = init_std

    def forward(self, obs: Array) -> Gaussian:
        """Return the distribution over actions."""
        mean, raw = self.torso(obs).chunk(2, dim=-1)
        softplus = nn.functional.softplus(raw, threshold=40.0)  # 20, the default, costs 2e-9
        return Gaussian(mean, torch.log(softplus * (self.init_std / math.log(2.0)) + 1e-6))

    def names(self, prefix: str) -> list[str]:
        """Return canonical names in the order of `parameters`."""
        return self.torso.names(prefix)


class GRU(nn.Module):
    """Linear layers, then a gated recurrent unit: x [T, B, observation_size] -> [T, B, H].

    `hidden` [B, H] is the state before the first step; where `begins` [T, B] is true, the state
    before a step counts as zero.
    """

    def __init__(self, spec: EnvSpec, layers: Layers, dtype: torch.dtype):
        super().__init__()
        self.activation = ACTIVATIONS[layers.activation]
        self.layers = nn.ModuleList(
            nn.Linear(fan_in, fan_out, dtype=dtype, device="meta")
            for fan_in, fan_out in gru_sizes(spec.observation_size, layers.sizes)
        )

    def forward(self, x: Array, hidden: Array, begins: Array) -> Array:
        """Return the states after each step."""
        *dense, of_inputs, of_state = self.layers
        for layer in dense:
            x = self.activation(layer(x))
        return gru(of_inputs(x), of_state.weight.T, of_state.bias, hidden, begins)

    def names(self, prefix: str) -> list[str]:
        """Return canonical names in the order of `parameters`."""
        return _linear_names(prefix, len(self.layers))


def _linear_layers(sizes: tuple[int, ...], dtype: torch.dtype) -> nn.ModuleList:
    return nn.ModuleList(
        nn.Linear(fan_in, fan_out, dtype=dtype, device="meta")
        for fan_in, fan_out in itertools.pairwise(sizes)
    )


def _conv_layers(shape: tuple[int, ...], dtype: torch.dtype) -> nn.ModuleList:
    layers, channels = nn.ModuleList(), shape[-1]
    for conv in convolutions(shape):
        layer = nn.Conv2d(
            channels, conv.channels, conv.window, conv.stride, dtype=dtype, device="meta"
        )
        layers.append(layer)
        channels = conv.channels
    return layers


class _Normed(nn.Module):
    """A layer, and LayerNorm over the last axis of its outputs."""

    def __init__(self, layer: nn.Module, width: int, apply: Callable, dtype: torch.dtype):
        super().__init__()
        self.layer = layer
        self.norm = nn.LayerNorm(width, eps=NORM_EPSILON, dtype=dtype, device="meta")
        self.apply_layer = apply

    def forward(self, x: Array) -> Array:
        """Apply the layer, then the normalization."""
        return _normalize(self.norm, self.apply_layer(self.layer, x))


def _layer_names(prefix: str) -> list[str]:
    return [f"{prefix}/kernel", f"{prefix}/bias"]


def _linear_names(prefix: str, layers: int) -> list[str]:
    return [name for i in range(layers) for name in _layer_names(f"{prefix}/{i}")]


def _normed_names(prefix: str, layers: nn.ModuleList) -> list[str]:
    names = []
    for i in range(len(layers)):
        names += _layer_names(f"{prefix}/{i}") + _norm_names(f"{prefix}/{i}")
    return names


def _norm_names(prefix: str) -> list[str]:
    return [f"{prefix}/norm/scale", f"{prefix}/norm/bias"]


def _dense(layer: Any, x: Array) -> Array:
    """Apply a linear layer in the type of `x`; weights of another type are cast and not changed."""
    if x.dtype == layer.weight.dtype:
        return layer(x)
    return nn.functional.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))


def _normalize(layer: Any, x: Array) -> Array:
    """Apply a layer normalization in the type of `x`, as `_dense` does."""
    if x.dtype == layer.weight.dtype:
        return layer(x)
    weight, bias = layer.weight.to(x.dtype), layer.bias.to(x.dtype)
    return nn.functional.layer_norm(x, layer.normalized_shape, weight, bias, layer.eps)


def _convolve(layer: Any, x: Array) -> Array:
    """Apply a convolution in the type of `x`, as `_dense` does."""
    if x.dtype == layer.weight.dtype:
        return layer(x)
    weight, bias = layer.weight.to(x.dtype), layer.bias.to(x.dtype)
    return nn.functional.conv2d(x, weight, bias, layer.stride)


def _convolve_last(layer: Any, image: Array) -> Array:
    """Apply a convolution to images with the channels last, [B, H, W, C]; torch has them second."""
    return _convolve(layer, image.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
