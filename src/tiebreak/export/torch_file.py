"""`.pt2`: an exported program that `torch.export.load` reads; TorchScript is deprecated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tiebreak.export.layers import (
    Add,
    Argmax,
    ArgmaxEach,
    Conv,
    Dense,
    Elu,
    Flatten,
    GreedyPolicy,
    Image,
    Keep,
    LayerNorm,
    Mean,
    Normalize,
    Relu,
    Rescale,
    Silu,
    Tanh,
)
from tiebreak.export.numpy_file import Outputs


class _Policy(nn.Module):
    """The layers one after the other; returns a dictionary of outputs."""

    def __init__(self, policy: GreedyPolicy):
        super().__init__()
        *layers, last = (MODULES[type(layer)](layer) for layer in policy.layers)
        self.layers, self.last, self.discrete = nn.ModuleList(layers), last, policy.discrete

    def forward(self, obs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return `action`, and `scores` if actions are discrete."""
        scores, kept = obs, obs
        for layer in self.layers:
            if isinstance(layer, _Keep):
                kept = scores
            scores = scores + kept if isinstance(layer, _Add) else layer(scores)
        action = self.last(scores)
        return {"action": action, "scores": scores} if self.discrete else {"action": action}


def write(policy: GreedyPolicy, path: Path) -> None:
    """Write a policy as an exported program with a dynamic batch."""
    module = _Policy(policy).eval().requires_grad_(False)
    example = torch.zeros(2, *policy.observation_shape)  # a batch of 1 would be taken for fixed
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(module, (example,), dynamic_shapes=({0: batch},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it has paths of this machine
    torch.export.save(program, path)


def run(path: Path, obs: np.ndarray) -> Outputs:
    """Return the actions that the file's policy chooses for observations [N, …]."""
    policy = torch.export.load(path).module()
    return {name: value.numpy() for name, value in policy(torch.from_numpy(obs)).items()}


class _Normalize(nn.Module):
    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, layer: Normalize):
        super().__init__()
        self.register_buffer("mean", torch.tensor(layer.mean))
        self.register_buffer("scale", torch.tensor(layer.scale))
        self.limit = layer.limit

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ((x - self.mean) / self.scale).clamp(-self.limit, self.limit)


class _Image(nn.Module):
    def __init__(self, layer: Image):
        super().__init__()
        self.shape = layer.shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(-1, *self.shape)


class _Conv(nn.Module):
    """A convolution of images with channels last, which torch takes with channels first."""

    def __init__(self, layer: Conv):
        super().__init__()
        height, width, channels, outputs = layer.kernel.shape
        self.conv = nn.Conv2d(channels, outputs, (height, width), layer.stride, device="meta")
        self.conv.weight = nn.Parameter(torch.tensor(layer.kernel.transpose(3, 2, 0, 1).copy()))
        self.conv.bias = nn.Parameter(torch.tensor(layer.bias))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class _Keep(nn.Identity):
    """Marks what the next `_Add` adds."""


class _Add(nn.Identity):
    """Adds what was kept."""


class _Rescale(nn.Module):
    low: torch.Tensor
    half_range: torch.Tensor

    def __init__(self, layer: Rescale):
        super().__init__()
        self.register_buffer("low", torch.tensor(layer.low))
        self.register_buffer("half_range", torch.tensor((layer.high - layer.low) / 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.low + (x.clamp(-1.0, 1.0) + 1.0) * self.half_range


class _Mean(nn.Module):
    atoms: torch.Tensor

    def __init__(self, layer: Mean):
        super().__init__()
        self.register_buffer("atoms", torch.tensor(layer.atoms))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (-1, len(self.atoms))).softmax(-1) @ self.atoms


class _Argmax(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.argmax(-1)


class _ArgmaxEach(nn.Module):
    def __init__(self, layer: ArgmaxEach):
        super().__init__()
        self.sizes = list(layer.sizes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([part.argmax(-1) for part in x.split(self.sizes, -1)], -1)


def _dense(layer: Dense) -> nn.Linear:
    linear = nn.Linear(*layer.kernel.shape, device="meta")  # draws no random numbers
    linear.weight = nn.Parameter(torch.tensor(layer.kernel.T.copy()))
    linear.bias = nn.Parameter(torch.tensor(layer.bias))
    return linear


def _layer_norm(layer: LayerNorm) -> nn.LayerNorm:
    norm = nn.LayerNorm(list(layer.scale.shape), eps=layer.epsilon, device="meta")
    norm.weight = nn.Parameter(torch.tensor(layer.scale))
    norm.bias = nn.Parameter(torch.tensor(layer.bias))
    return norm


MODULES: dict[type, Callable[[Any], nn.Module]] = {
    Flatten: lambda layer: nn.Flatten(),
    Normalize: _Normalize,
    Dense: _dense,
    LayerNorm: _layer_norm,
    Image: _Image,
    Conv: _Conv,
    Keep: lambda layer: _Keep(),
    Add: lambda layer: _Add(),
    Tanh: lambda layer: nn.Tanh(),
    Relu: lambda layer: nn.ReLU(),
    Elu: lambda layer: nn.ELU(),
    Mean: _Mean,
    Silu: lambda layer: nn.SiLU(),
    Rescale: _Rescale,
    Argmax: lambda layer: _Argmax(),
    ArgmaxEach: _ArgmaxEach,
}
"""Makes a module of a layer."""
