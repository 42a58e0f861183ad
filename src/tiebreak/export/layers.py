"""A greedy policy as a list of layers, made from stored weights; every format is written from it.

A layer is a NamedTuple whose fields are arrays or numbers, a row of LAYERS. A new one needs an
operation in numpy_file.py and a row in the table of each other format.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tiebreak import registry
from tiebreak.core.errors import UsageError
from tiebreak.core.text import quoted
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


class Rescale(NamedTuple):
    """Clip to [-1, 1] and map onto the box [low, high]: actions in the environment's units."""

    low: np.ndarray
    """[A]"""
    high: np.ndarray
    """[A]"""


class Argmax(NamedTuple):
    """Return the place of the largest entry, the discrete action; its input is the scores."""


LAYERS = {
    "flatten": Flatten,
    "normalize": Normalize,
    "dense": Dense,
    "layer_norm": LayerNorm,
    "tanh": Tanh,
    "relu": Relu,
    "elu": Elu,
    "rescale": Rescale,
    "argmax": Argmax,
}
"""Layers by the name that files give them."""

KINDS = {layer: name for name, layer in LAYERS.items()}
"""The reverse of LAYERS."""

Layer = Any  # one of LAYERS


class GreedyPolicy(NamedTuple):
    """Observations [N, *observation_shape] -> the best actions."""

    observation_shape: tuple[int, ...]
    """Of what a policy may see: privileged entries are left out."""
    discrete: bool
    """Actions are integers, and the last layer is Argmax; otherwise it is Rescale."""
    action_size: int
    """Number of discrete actions, or dimensions of the box."""
    layers: tuple[Layer, ...]
    about: dict[str, str]
    """Algorithm, task and training steps, for a file's metadata."""


def greedy_policy(stored: Policy) -> GreedyPolicy:
    """Return the policy of a stored training run as layers, in float32.

    Raises UsageError for networks that are no row of layers.
    """
    spec, config = stored.spec, stored.config
    if config.network != "mlp":
        raise UsageError(
            f"a policy of network {quoted(config.network)} cannot be exported yet (valid: mlp); "
            "tiebreak.load_policy runs it in Python"
        )
    row = registry.ALGORITHMS[stored.algorithm].greedy
    layers: list[Layer] = [Flatten()]
    if config.normalize_obs:
        layers.append(_normalize(stored.weights, spec.visible_size))
    elif spec.pixels:
        size = np.ones(spec.observation_size, np.float32)
        layers.append(Normalize(0.0 * size, 255.0 * size))

    layers += TORSOS[row.torso](stored.weights, row.network, getattr(config, "activation", ""))
    last = layers.pop()
    layers.append(Dense(last.kernel[:, : spec.action_size], last.bias[: spec.action_size]))

    if spec.discrete:
        layers.append(Argmax())
    else:
        layers += [Tanh()] * row.squashed
        layers.append(Rescale(*(np.asarray(bound, np.float32) for bound in spec.bounds)))
    hidden = spec.visible_size < spec.observation_size
    shape = (spec.visible_size,) if hidden else spec.observation_shape
    about = {"algorithm": stored.algorithm}
    about |= {k: str(stored.metadata[k]) for k in ("task", "steps") if k in stored.metadata}
    return GreedyPolicy(shape, spec.discrete, spec.action_size, tuple(layers), about)


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


ACTIVATIONS = {"tanh": Tanh, "relu": Relu, "elu": Elu}


def _dense(weights: Weights, name: str) -> list[Dense]:
    """Return the dense layers `name/0`, `name/1`, …"""
    layers = []
    while f"{name}/{len(layers)}/kernel" in weights:
        kernel, bias = (weights[f"{name}/{len(layers)}/{part}"] for part in ("kernel", "bias"))
        layers.append(Dense(np.asarray(kernel, np.float32), np.asarray(bias, np.float32)))
    return layers


def _mlp(weights: Weights, name: str, activation: str) -> list[Layer]:
    """Return dense layers with an activation between them."""
    first, *others = _dense(weights, name)
    layers: list[Layer] = [first]
    for layer in others:
        layers += [ACTIVATIONS[activation](), layer]
    return layers


def _layer_norm_mlp(weights: Weights, name: str, activation: str) -> list[Layer]:
    """Return dense, LayerNorm, tanh, then dense layers with ELU between them."""
    scale, bias = (
        np.asarray(weights[f"{name}/norm/{part}"], np.float32) for part in ("scale", "bias")
    )
    first, second, *others = _dense(weights, name)
    layers: list[Layer] = [first, LayerNorm(scale, bias), Tanh(), second]
    for layer in others:
        layers += [Elu(), layer]
    return layers


TORSOS: dict[str, Callable[[Weights, str, str], list[Layer]]] = {
    "mlp": _mlp,
    "layer_norm_mlp": _layer_norm_mlp,
}
"""Layers of a network from its weights, its canonical name and its activation; the last is Dense.
Named as in frameworks/*/networks.py."""
