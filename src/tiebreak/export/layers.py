"""A greedy policy as a list of layers, made from stored weights; every format is written from it.

A layer is a NamedTuple whose fields are arrays or numbers, a row of LAYERS. A new one needs an
operation in numpy_file.py and a row in the table of each other format that takes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tiebreak import registry
from tiebreak.core import networks
from tiebreak.core.errors import UsageError
from tiebreak.core.text import quoted
from tiebreak.core.types import EnvSpec
from tiebreak.frameworks.weights import Weights
from tiebreak.training.policy_files import Policy

NORM_EPSILON = 1e-5
"""Layer normalization's ε, as all networks have it."""


class Flatten(NamedTuple):
    """Make each observation a vector: [N, …] -> [N, D]."""


class Normalize(NamedTuple):
    """Return (x − mean) / scale, clipped to ±limit."""

    mean: np.ndarray
    """[D]"""
    scale: np.ndarray
    """[D]"""
    limit: float = 10.0


class Dense(NamedTuple):
    """Return x · kernel + bias."""

    kernel: np.ndarray
    """[in, out]"""
    bias: np.ndarray
    """[out]"""


class LayerNorm(NamedTuple):
    """Normalize over the last axis, with the biased variance; then times scale, plus bias."""

    scale: np.ndarray
    """[D]"""
    bias: np.ndarray
    """[D]"""
    epsilon: float = NORM_EPSILON


class Tanh(NamedTuple):
    """Return tanh x."""


class Relu(NamedTuple):
    """Return x where it is positive, else 0."""


class Elu(NamedTuple):
    """Return x where it is positive, else eˣ − 1."""


class Silu(NamedTuple):
    """Return x / (1 + e⁻ˣ)."""


class Image(NamedTuple):
    """Make each vector an image again: [N, D] -> [N, height, width, channels]."""

    shape: tuple[int, ...]
    """Height, width, channels."""


class Conv(NamedTuple):
    """Convolve images [N, height, width, in] without padding, in windows of one size."""

    kernel: np.ndarray
    """[height, width, in, out]"""
    bias: np.ndarray
    """[out]"""
    stride: int
    """Pixels from a window to the next."""


class Keep(NamedTuple):
    """Return x, and keep it for the next Add."""


class Add(NamedTuple):
    """Return x plus what was kept."""


class Mean(NamedTuple):
    """Return the means of distributions over `atoms`, of which x has the logits.

    [N, A · K] -> [N, A]
    """

    atoms: np.ndarray
    """[K]"""


class Rescale(NamedTuple):
    """Clip to [-1, 1] and map onto the box [low, high]: actions in the environment's units."""

    low: np.ndarray
    """[A]"""
    high: np.ndarray
    """[A]"""


class Argmax(NamedTuple):
    """Return the place of the largest entry, the discrete action; its input is the scores."""


class ArgmaxEach(NamedTuple):
    """Return the places of the largest entries of each part of the scores: several choices."""

    sizes: tuple[int, ...]
    """Widths of the parts."""


LAYERS = {
    "flatten": Flatten,
    "normalize": Normalize,
    "dense": Dense,
    "layer_norm": LayerNorm,
    "image": Image,
    "conv": Conv,
    "keep": Keep,
    "add": Add,
    "tanh": Tanh,
    "relu": Relu,
    "elu": Elu,
    "mean": Mean,
    "silu": Silu,
    "rescale": Rescale,
    "argmax": Argmax,
    "argmax_each": ArgmaxEach,
}
"""Layers by the name that files give them."""

KINDS = {layer: name for name, layer in LAYERS.items()}
"""The reverse of LAYERS."""

Layer = Any  # one of LAYERS


class GreedyPolicy(NamedTuple):
    """Observations [N, *observation_shape] -> the best actions."""

    observation_shape: tuple[int, ...]
    """Shape of what a policy may see: privileged entries are left out."""
    discrete: bool
    """Actions are integers, and the last layer is Argmax or ArgmaxEach; otherwise Rescale."""
    action_shape: tuple[int, ...]
    """Shape of one action."""
    action_size: int
    """Number of scores of discrete actions, or dimensions of the box."""
    layers: tuple[Layer, ...]
    about: dict[str, str]
    """Algorithm, task and training steps, for a file's metadata."""


def greedy_policy(stored: Policy) -> GreedyPolicy:
    """Return the policy of a stored training run as layers, in float32.

    Raises UsageError for networks that are no row of TORSOS.
    """
    spec, config = stored.spec, stored.config
    row = registry.ALGORITHMS[stored.algorithm].greedy
    network = getattr(config, row.layers)
    if network.kind not in TORSOS:
        raise UsageError(
            f"a policy of network {quoted(network.kind)} cannot be exported (valid: "
            f"{', '.join(kind for kind in networks.NETWORKS if kind in TORSOS)}); "
            "tiebreak.load_policy runs it in Python"
        )
    layers: list[Layer] = [Flatten()]
    if config.normalize_obs:
        layers.append(_normalize(stored.weights, spec.visible_size))
    elif spec.pixels:
        zeros = np.zeros(spec.observation_size, np.float32)
        layers.append(Normalize(zeros, zeros + 255.0))

    if networks.is_convolutional(network.kind):
        layers += _convolutions(stored.weights, row.network, network.activation, spec)
    layers += TORSOS[network.kind](stored.weights, row.network, network.activation)
    layers += _scores(layers.pop(), stored, row.distributional)
    layers += _last_layers(spec, row.squashed)
    hidden = spec.visible_size < spec.observation_size
    shape = (spec.visible_size,) if hidden else spec.observation_shape
    about = {"algorithm": stored.algorithm}
    about |= {k: str(stored.metadata[k]) for k in ("task", "steps") if k in stored.metadata}
    return GreedyPolicy(
        observation_shape=shape,
        discrete=spec.discrete,
        action_shape=spec.action_shape,
        action_size=spec.action_size,
        layers=tuple(layers),
        about=about,
    )


def _scores(last: Dense, stored: Policy, distributional: bool) -> list[Layer]:
    """Return the last dense layer, without outputs that no action needs, and means of returns."""
    config = stored.config
    atoms = config.num_atoms if distributional else 1
    outputs = stored.spec.action_size * atoms
    dense = Dense(last.kernel[:, :outputs], last.bias[:outputs])
    if atoms == 1:
        return [dense]
    return [dense, Mean(np.linspace(config.v_min, config.v_max, atoms, dtype=np.float32))]


def _last_layers(spec: EnvSpec, squashed: bool) -> list[Layer]:
    """Return the layers that make actions of a network's outputs."""
    if spec.nvec is not None:
        return [ArgmaxEach(spec.nvec)]
    if spec.discrete:
        return [Argmax()]
    low, high = (np.asarray(bound, np.float32) for bound in spec.bounds)
    return [*[Tanh()] * squashed, Rescale(low, high)]


def to_arrays(policy: GreedyPolicy) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return the names of the layers in order, and their fields as arrays.

    The field `kernel` of layer 2, counted from 0, is `2.kernel`.
    """
    arrays = {
        f"{i}.{name}": np.asarray(value, np.float32, order="C")
        for i, layer in enumerate(policy.layers)
        for name, value in layer._asdict().items()
    }
    return [KINDS[type(layer)] for layer in policy.layers], arrays


def _normalize(weights: Weights, size: int) -> Normalize:
    """Return the layer of the first `size` entries' running statistics."""
    mean, variance = (
        np.asarray(weights[f"obs_moments/{name}"], np.float32)[:size] for name in ("mean", "var")
    )
    return Normalize(mean, np.sqrt(variance + np.float32(1e-8)))


ACTIVATIONS = {"tanh": Tanh, "relu": Relu, "elu": Elu, "silu": Silu}


def _dense(weights: Weights, name: str) -> list[Dense]:
    """Return the dense layers `name/0`, `name/1`, …"""
    layers = []
    while f"{name}/{len(layers)}/kernel" in weights:
        kernel, bias = (weights[f"{name}/{len(layers)}/{part}"] for part in ("kernel", "bias"))
        layers.append(Dense(np.asarray(kernel, np.float32), np.asarray(bias, np.float32)))
    return layers


def _norm(weights: Weights, name: str) -> LayerNorm:
    """Return the layer normalization `name/norm`."""
    scale, bias = (weights[f"{name}/norm/{part}"] for part in ("scale", "bias"))
    return LayerNorm(np.asarray(scale, np.float32), np.asarray(bias, np.float32))


def _mlp(weights: Weights, name: str, activation: str) -> list[Layer]:
    """Return dense layers with an activation between them."""
    first, *others = _dense(weights, name)
    layers: list[Layer] = [first]
    for layer in others:
        layers += [ACTIVATIONS[activation](), layer]
    return layers


def _norm_mlp(weights: Weights, name: str, activation: str) -> list[Layer]:
    """Return dense layers with LayerNorm and an activation between them."""
    *hidden, last = _dense(weights, name)
    layers: list[Layer] = []
    for i, layer in enumerate(hidden):
        layers += [layer, _norm(weights, f"{name}/{i}"), ACTIVATIONS[activation]()]
    return [*layers, last]


def _layer_norm_mlp(weights: Weights, name: str, activation: str) -> list[Layer]:
    """Return dense, LayerNorm, tanh, then dense layers with ELU between them."""
    first, second, *others = _dense(weights, name)
    layers: list[Layer] = [first, _norm(weights, name), Tanh(), second]
    for layer in others:
        layers += [Elu(), layer]
    return layers


def _convolutions(weights: Weights, name: str, activation: str, spec: EnvSpec) -> list[Layer]:
    """Return convolutions of images, each with its activation, and a vector of what they see.

    Between the two is LayerNorm, if the weights have it.
    """
    layers: list[Layer] = [Image(spec.observation_shape)]
    convs = networks.convolutions(spec.observation_shape)
    kernels = _dense(weights, f"{name}/conv")
    for i, (conv, dense) in enumerate(zip(convs, kernels, strict=True)):
        layers.append(Conv(dense.kernel, dense.bias, conv.stride))
        if f"{name}/conv/{i}/norm/scale" in weights:
            layers.append(_norm(weights, f"{name}/conv/{i}"))
        layers.append(ACTIVATIONS[activation]())
    return [*layers, Flatten()]


def _simba(weights: Weights, name: str, activation: str) -> list[Layer]:
    """Return a dense layer, residual blocks, LayerNorm and a dense layer."""
    first, last = _dense(weights, name)
    layers: list[Layer] = [first]
    while f"{name}/block/{len(layers) // 6}/0/kernel" in weights:
        block = f"{name}/block/{len(layers) // 6}"
        wide, narrow = _dense(weights, block)
        layers += [Keep(), _norm(weights, block), wide, ACTIVATIONS[activation](), narrow, Add()]
    return [*layers, _norm(weights, name), last]


TORSOS: dict[str, Callable[[Weights, str, str], list[Layer]]] = {
    "mlp": _mlp,
    "cnn": _mlp,
    "layer_norm_mlp": _layer_norm_mlp,
    "norm_mlp": _norm_mlp,
    "norm_cnn": _norm_mlp,
    "simba": _simba,
}
"""Layers of a network's vectors by its kind, from its weights, canonical name and activation. The
last is Dense. Kinds are those of core/networks.py; convolutions come before."""
