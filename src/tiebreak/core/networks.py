"""The layers of networks by name: what every framework, the oracle and initial weights agree on.

A network maps features [B, inputs] to [B, outputs]. Features of an image are its numbers in the
order height, width, channel; what else a network sees (a critic's action) follows them.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.types import EnvSpec

NETWORKS = {
    "mlp": "dense layers",
    "cnn": "convolutions over an image, then dense layers",
    "simba": "a dense layer, then residual blocks with LayerNorm (Lee et al. 2024)",
    "norm_mlp": "dense layers with LayerNorm before each activation",
    "norm_cnn": "convolutions over an image, dense layers; LayerNorm before each activation",
    "gru": "dense layers, then a gated recurrent unit: a policy with memory (ppo)",
}
"""Valid values of the setting `network`."""
FOR_IMAGES = {"norm_mlp": "norm_cnn"}
"""Network of a reference -> its network where observations are images, if that is not `cnn`."""
RECURRENT = ("gru",)
"""Those with a memory, which not every algorithm has a place for."""


@dataclass(frozen=True)
class Layers:
    """The layers between a network's inputs and outputs."""

    kind: str
    """One of NETWORKS, `layer_norm_mlp`, MPO's dense layers, or `module:function`, a user's."""
    sizes: tuple[int, ...]
    """Widths of the hidden dense layers."""
    activation: str
    """Activation after every hidden layer, convolutions included."""


class Conv(NamedTuple):
    """A convolution without padding, of square windows."""

    channels: int
    """Outputs of each window."""
    window: int
    """Height and width of a window, in pixels."""
    stride: int
    """Pixels from a window to the next."""


NATURE = (Conv(32, 8, 4), Conv(64, 4, 2), Conv(64, 3, 1))
"""Convolutions of DQN for Atari (Mnih et al. 2015)."""
NATURE_DENSE = 512
"""Width of the dense layer after them."""
NATURE_SIDE = 36
"""Smallest height and width that these leave anything of."""
SMALL = (Conv(16, 3, 1),)
"""The convolution for MinAtar (Young & Tian 2019)."""
EXPANSION = 4
"""Width inside a residual block of SimBa, in widths of the block."""
GATES = 3
"""Products of a gated recurrent unit: of its reset gate, its update gate and its candidate."""
SMALL_DENSE = 128
"""Width of the dense layer after it."""
SMALL_SIDE = 3
"""Smallest height and width of an image."""


def is_image(spec: EnvSpec) -> bool:
    """Return True if observations are images that a CNN can see, [height, width, channels]."""
    shape = spec.observation_shape
    return len(shape) == 3 and min(shape[:2]) >= SMALL_SIDE


def is_convolutional(network: str) -> bool:
    """Return True if a network begins with convolutions over an image."""
    return network in ("cnn", "norm_cnn")


def is_own(network: str) -> bool:
    """Return True if the setting `network` names a user's own, `module:function`."""
    return ":" in network


def convolutions(shape: tuple[int, ...]) -> tuple[Conv, ...]:
    """Return the convolutions for images [height, width, channels], by their size."""
    return NATURE if min(shape[:2]) >= NATURE_SIDE else SMALL


def convolved_size(shape: tuple[int, ...]) -> int:
    """Return how many numbers the convolutions make of an image [height, width, channels]."""
    height, width, channels = shape
    for conv in convolutions(shape):
        height = (height - conv.window) // conv.stride + 1
        width = (width - conv.window) // conv.stride + 1
        channels = conv.channels
    return height * width * channels


def dense_sizes(kind: str, shape: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the widths from the first dense layer's inputs on; `sizes` has the network's.

    Both are [inputs, …, outputs]. They differ where convolutions over observations of `shape` come
    first.
    """
    if not is_convolutional(kind):
        return sizes
    others = sizes[0] - math.prod(shape)
    return convolved_size(shape) + others, *sizes[1:]


def gru_sizes(inputs: int, widths: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return [in, out] of every product: dense layers', then gates of inputs, gates of the state.

    `widths` are those of the dense layers, then that of the gated recurrent unit.
    """
    *dense, width = widths
    sizes = (inputs, *dense)
    gates = GATES * width
    return [*itertools.pairwise(sizes), (sizes[-1], gates), (width, gates)]


def heads(spec: EnvSpec, layers: Layers) -> tuple[EnvSpec, Layers]:
    """Return what policy and value see, and their layers.

    Of a recurrent network they see the state that they share, through a hidden layer of its width
    each; otherwise the observations, through all layers.
    """
    if layers.kind not in RECURRENT:
        return spec, layers
    width = layers.sizes[-1]
    seen = dataclasses.replace(spec, observation_shape=(width,), visible=None, pixels=False)
    return seen, Layers("mlp", (width,), layers.activation)


def kernels(
    layers: Layers, shape: tuple[int, ...], inputs: int, outputs: int
) -> dict[str, tuple[int, ...]]:
    """Return the shape of each layer's kernel, by its name in the network; the output's last.

    Dense kernels are [in, out], those of convolutions [height, width, in, out]. `shape` is that of
    observations, with which the `inputs` begin.
    """
    out: dict[str, tuple[int, ...]] = {}
    if is_own(layers.kind):
        return out  # known to its framework alone
    if layers.kind == "simba":
        width = layers.sizes[0]
        out["0"] = (inputs, width)
        for i in range(len(layers.sizes)):
            out[f"block/{i}/0"] = (width, EXPANSION * width)
            out[f"block/{i}/1"] = (EXPANSION * width, width)
        out["1"] = (width, outputs)
        return out

    if is_convolutional(layers.kind):
        channels = shape[-1]
        for i, conv in enumerate(convolutions(shape)):
            out[f"conv/{i}"] = (conv.window, conv.window, channels, conv.channels)
            channels = conv.channels
    sizes = dense_sizes(layers.kind, shape, (inputs, *layers.sizes, outputs))
    for i, pair in enumerate(itertools.pairwise(sizes)):
        out[f"{i}"] = pair
    return out


def norms(layers: Layers, shape: tuple[int, ...]) -> dict[str, int]:
    """Return the size of each layer normalization, by its name in the network.

    `shape` is that of observations.
    """
    if layers.kind == "layer_norm_mlp":
        return {"norm": layers.sizes[0]}
    if layers.kind == "simba":
        width = layers.sizes[0]
        return {**{f"block/{i}/norm": width for i in range(len(layers.sizes))}, "norm": width}
    if layers.kind not in ("norm_mlp", "norm_cnn"):
        return {}

    out: dict[str, int] = {}
    for i, conv in enumerate(convolutions(shape) if layers.kind == "norm_cnn" else ()):
        out[f"conv/{i}/norm"] = conv.channels
    for i, width in enumerate(layers.sizes):
        out[f"{i}/norm"] = width
    return out


def for_observations(config: Any, spec: EnvSpec) -> Any:
    """Return a reference configuration as it is for vectors; for images with a CNN and ReLU.

    If its network has LayerNorm in all layers, so has the CNN.
    """
    if not is_image(spec):
        return config
    names = {field.name for field in dataclasses.fields(config)}
    is_nature = convolutions(spec.observation_shape) == NATURE
    width = NATURE_DENSE if is_nature else SMALL_DENSE
    changes: dict[str, Any] = {name: (width,) for name in names if name.endswith("sizes")}
    changes |= {"network": FOR_IMAGES.get(config.network, "cnn"), "normalize_obs": False}
    if "activation" in names:
        changes["activation"] = "relu"
    return dataclasses.replace(config, **changes)


def check(network: str, *sizes: tuple[int, ...], recurrent: bool = False) -> None:
    """Raise UsageError unless the setting `network` is valid with these widths.

    `recurrent` says whether the algorithm has a place for a memory.
    """
    if is_own(network):
        return
    if network not in NETWORKS:
        raise unknown("network", network, NETWORKS, "or module:function, one of your own")
    if network in RECURRENT and not recurrent:
        others = ", ".join(name for name in NETWORKS if name not in RECURRENT)
        raise UsageError(
            f"network {network!r} has a memory, which this algorithm has no place for: use ppo, or "
            f"another network (valid here: {others})"
        )
    if network in RECURRENT and () in sizes:
        raise UsageError(
            f"network {network!r} has the last of hidden_sizes as the width of its memory: give at "
            "least one, e.g. 128,128"
        )
    for widths in sizes if network == "simba" else ():
        if len(set(widths)) != 1:
            raise UsageError(
                f"network 'simba' has a residual block for each width, and all are of one width; "
                f"got the sizes {widths}: give equal ones, e.g. 256,256"
            )


def require(network: str, spec: EnvSpec) -> None:
    """Raise UsageError if a network cannot take the observations of a task."""
    if is_convolutional(network) and not is_image(spec):
        instead = network.replace("cnn", "mlp")
        raise UsageError(
            f"network {network!r} takes images, [height, width, channels] from {SMALL_SIDE} × "
            f"{SMALL_SIDE} pixels on; observations here have the shape {spec.observation_shape}: "
            f"use --set network={instead}"
        )
