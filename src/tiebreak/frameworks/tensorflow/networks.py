"""Networks in TensorFlow: descriptions without weights, applied to named tensors.

`weights` maps canonical names (`actor/0/kernel`) to tensors. Keras layers would own their
variables one by one; here all weights of an optimizer are cut out of one vector (see ops.py).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import tensorflow as tf

from tiebreak.core.networks import EXPANSION, Layers, convolutions, dense_sizes, gru_sizes
from tiebreak.core.types import Array, EnvSpec
from tiebreak.frameworks.tensorflow.ops import (
    Categorical,
    Gaussian,
    MultiCategorical,
    SquashedGaussian,
    at_least_float32,
    categorical,
    gru,
)

ACTIVATIONS: dict[str, Callable] = {
    "tanh": tf.tanh,
    "relu": tf.nn.relu,
    "elu": tf.nn.elu,
    "silu": tf.nn.silu,
}
NORM_EPSILON = 1e-5
"""Layer normalization's ε, added to the biased variance; libraries default to 1e-6, 1e-5, 1e-3."""

_Shapes = dict[str, tuple[int, ...]]
"""Canonical names and shapes of weights."""


@dataclass(frozen=True)
class MLP:
    """Dense layers with an activation between them; x [B, sizes[0]] -> [B, sizes[-1]]."""

    name: str
    sizes: tuple[int, ...]
    activation: str

    def shapes(self) -> _Shapes:
        """Return canonical names and shapes of the weights."""
        out: _Shapes = {}
        for i, (fan_in, fan_out) in enumerate(itertools.pairwise(self.sizes)):
            out[f"{self.name}/{i}/kernel"] = (fan_in, fan_out)
            out[f"{self.name}/{i}/bias"] = (fan_out,)
        return out

    def __call__(self, weights: Mapping[str, Array], x: Array) -> Array:
        layers = len(self.sizes) - 1
        for i in range(layers):
            x = _dense(weights, f"{self.name}/{i}", x)
            if i < layers - 1:
                x = ACTIVATIONS[self.activation](x)
        return x


@dataclass(frozen=True)
class LayerNormMLP:
    """Dense, LayerNorm, tanh, then dense layers with an activation between them."""

    name: str
    sizes: tuple[int, ...]
    activation: str

    def shapes(self) -> _Shapes:
        """Return canonical names and shapes of the weights."""
        out = MLP(self.name, self.sizes, self.activation).shapes()
        return {**out, **_norm_shapes(self.name, self.sizes[1])}

    def __call__(self, weights: Mapping[str, Array], x: Array) -> Array:
        layers = len(self.sizes) - 1
        for i in range(layers):
            x = _dense(weights, f"{self.name}/{i}", x)
            if i == 0:
                x = tf.tanh(_normalize(weights, f"{self.name}/norm", x))
            elif i < layers - 1:
                x = ACTIVATIONS[self.activation](x)
        return x


@dataclass(frozen=True)
class NormMLP:
    """Dense layers with LayerNorm and an activation between them."""

    name: str
    sizes: tuple[int, ...]
    activation: str

    def shapes(self) -> _Shapes:
        """Return canonical names and shapes of the weights."""
        out = MLP(self.name, self.sizes, self.activation).shapes()
        for i, width in enumerate(self.sizes[1:-1]):
            out.update(_norm_shapes(f"{self.name}/{i}", width))
        return out

    def __call__(self, weights: Mapping[str, Array], x: Array) -> Array:
        layers = len(self.sizes) - 1
        for i in range(layers):
            x = _dense(weights, f"{self.name}/{i}", x)
            if i < layers - 1:
                x = _normalize(weights, f"{self.name}/{i}/norm", x)
                x = ACTIVATIONS[self.activation](x)
        return x


@dataclass(frozen=True)
class ResidualBlock:
    """x plus what LayerNorm, a wide dense layer, an activation and a dense layer make of it."""

    name: str
    width: int
    activation: str

    def shapes(self) -> _Shapes:
        """Return canonical names and shapes of the weights."""
        sizes = (self.width, EXPANSION * self.width, self.width)
        dense = MLP(self.name, sizes, self.activation).shapes()
        return {**dense, **_norm_shapes(self.name, self.width)}

    def __call__(self, weights: Mapping[str, Array], x: Array) -> Array:
        hidden = _normalize(weights, f"{self.name}/norm", x)
        hidden = ACTIVATIONS[self.activation](_dense(weights, f"{self.name}/0", hidden))
        return x + _dense(weights, f"{self.name}/1", hidden)


@dataclass(frozen=True)
class SimBa:
    """A dense layer, residual blocks, LayerNorm and a dense layer (Lee et al. 2024)."""

    name: str
    sizes: tuple[int, ...]
    activation: str

    @property
    def block(self) -> list[ResidualBlock]:
        """The residual blocks."""
        return [
            ResidualBlock(f"{self.name}/block/{i}", width, self.activation)
            for i, width in enumerate(self.sizes[1:-1])
        ]

    def shapes(self) -> _Shapes:
        """Return canonical names and shapes of the weights."""
        ends = (self.sizes[0], self.sizes[1], self.sizes[-1])
        out = MLP(self.name, ends, self.activation).shapes()
        for block in self.block:
            out.update(block.shapes())
        return {**out, **_norm_shapes(self.name, self.sizes[1])}

    def __call__(self, weights: Mapping[str, Array], x: Array) -> Array:
        x = _dense(weights, f"{self.name}/0", x)
        for block in self.block:
            x = block(weights, x)
        x = _normalize(weights, f"{self.name}/norm", x)
        return _dense(weights, f"{self.name}/1", x)


@dataclass(frozen=True)
class CNN:
    """Convolutions over the image that x begins with, then dense layers over that and the rest.

    x [..., sizes[0]] -> [..., sizes[-1]]; `shape` is the image's, [height, width, channels].
    """

    name: str
    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    activation: str

    @property
    def dense(self) -> MLP:
        """The dense layers."""
        return MLP(self.name, dense_sizes("cnn", self.shape, self.sizes), self.activation)

    def shapes(self) -> _Shapes:
        """Return canonical names and shapes of the weights."""
        out: _Shapes = {}
        channels = self.shape[-1]
        for i, conv in enumerate(convolutions(self.shape)):
            kernel = (conv.window, conv.window, channels, conv.channels)
            out[f"{self.name}/conv/{i}/kernel"] = kernel
            out[f"{self.name}/conv/{i}/bias"] = (conv.channels,)
            channels = conv.channels
        return {**out, **self.dense.shapes()}

    def __call__(self, weights: Mapping[str, Array], x: Array) -> Array:
        size = math.prod(self.shape)
        image = tf.reshape(x[..., :size], (-1, *self.shape))
        for i, conv in enumerate(convolutions(self.shape)):
            image = _convolve(weights, f"{self.name}/conv/{i}", image, conv.stride)
            image = ACTIVATIONS[self.activation](image)
        seen = tf.reshape(flatten_image(image), (*x.shape[:-1], -1))
        return self.dense(weights, tf.concat([seen, x[..., size:]], axis=-1))


@dataclass(frozen=True)
class NormCNN:
    """A CNN with LayerNorm before each activation; of an image, over the channels of each pixel.

    x [..., sizes[0]] -> [..., sizes[-1]]; `shape` is the image's, [height, width, channels].
    """

    name: str
    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    activation: str

    @property
    def dense(self) -> NormMLP:
        """The dense layers."""
        return NormMLP(self.name, dense_sizes("norm_cnn", self.shape, self.sizes), self.activation)

    def shapes(self) -> _Shapes:
        """Return canonical names and shapes of the weights."""
        out = CNN(self.name, self.shape, self.sizes, self.activation).shapes()
        for i, conv in enumerate(convolutions(self.shape)):
            out.update(_norm_shapes(f"{self.name}/conv/{i}", conv.channels))
        return {**out, **self.dense.shapes()}

    def __call__(self, weights: Mapping[str, Array], x: Array) -> Array:
        size = math.prod(self.shape)
        image = tf.reshape(x[..., :size], (-1, *self.shape))
        for i, conv in enumerate(convolutions(self.shape)):
            image = _convolve(weights, f"{self.name}/conv/{i}", image, conv.stride)
            image = _normalize(weights, f"{self.name}/conv/{i}/norm", image)
            image = ACTIVATIONS[self.activation](image)
        seen = tf.reshape(flatten_image(image), (*x.shape[:-1], -1))
        return self.dense(weights, tf.concat([seen, x[..., size:]], axis=-1))


def flatten_image(image: Array) -> Array:
    """Flatten images [B, H, W, C] to [B, H·W·C], channels fastest."""
    return tf.reshape(image, (image.shape[0], -1))


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
    layers: Layers, name: str, shape: tuple[int, ...], sizes: tuple[int, ...]
) -> Callable:
    """Return the layers of a network: x [B, sizes[0]] -> [B, sizes[-1]].

    `shape` is that of observations, with which x begins.
    """
    if layers.kind in IMAGE_TORSOS:
        return IMAGE_TORSOS[layers.kind](name, shape, sizes, layers.activation)
    return TORSOS[layers.kind](name, sizes, layers.activation)


@dataclass(frozen=True)
class _Network:
    """Layers called `name`, and what a subclass makes of their outputs."""

    name: str
    spec: EnvSpec
    layers: Layers

    @property
    def inputs(self) -> int:
        """Numbers that the first layer takes."""
        return self.spec.observation_size

    @property
    def outputs(self) -> int:
        """Numbers that the last layer returns."""
        return self.spec.action_size

    @cached_property
    def torso(self) -> Callable:
        """The layers."""
        sizes = (self.inputs, *self.layers.sizes, self.outputs)
        return make_torso(self.layers, self.name, self.spec.observation_shape, sizes)

    def shapes(self) -> _Shapes:
        """Return canonical names and shapes of the weights."""
        return self.torso.shapes()


class Policy(_Network):
    """Stochastic policy: obs [B, observation_size] -> distribution over actions."""

    def shapes(self) -> _Shapes:
        """Return canonical names and shapes of the weights."""
        out = super().shapes()
        if not self.spec.discrete:
            out[f"{self.name}/log_std"] = (self.spec.action_size,)
        return out

    def __call__(
        self, weights: Mapping[str, Array], obs: Array
    ) -> Categorical | MultiCategorical | Gaussian:
        out = self.torso(weights, obs)
        if self.spec.discrete:
            return categorical(out, self.spec.nvec)
        return Gaussian(out, weights[f"{self.name}/log_std"])


class Value(_Network):
    """State value: obs [B, observation_size] -> [B]."""

    @property
    def outputs(self) -> int:
        """Numbers that the last layer returns."""
        return 1

    def __call__(self, weights: Mapping[str, Array], obs: Array) -> Array:
        return self.torso(weights, obs)[..., 0]


@dataclass(frozen=True)
class ActionValues(_Network):
    """Q of every discrete action: obs [B, observation_size] -> [B, num_actions].

    With more than one of `atoms`, the logits of as many possible returns instead:
    [B, num_actions, atoms].
    """

    atoms: int = 1

    @property
    def outputs(self) -> int:
        """Numbers that the last layer returns."""
        return self.spec.action_size * self.atoms

    def __call__(self, weights: Mapping[str, Array], obs: Array) -> Array:
        out = self.torso(weights, obs)
        if self.atoms == 1:
            return out
        return tf.reshape(out, (*out.shape[:-1], self.spec.action_size, self.atoms))


@dataclass(frozen=True)
class Critic(_Network):
    """Q of one action: obs [B, observation_size], action [B, action_size] -> [B].

    With `atoms`, the logits of as many possible returns instead: [B, atoms].
    """

    atoms: int = 0

    @property
    def inputs(self) -> int:
        """Numbers that the first layer takes."""
        return self.spec.observation_size + self.spec.action_size

    @property
    def outputs(self) -> int:
        """Numbers that the last layer returns."""
        return self.atoms or 1

    def __call__(self, weights: Mapping[str, Array], obs: Array, action: Array) -> Array:
        out = self.torso(weights, tf.concat([obs, action], axis=-1))
        return out if self.atoms else out[..., 0]


class DeterministicPolicy(_Network):
    """One action per state: obs [B, observation_size] -> [B, action_size] in [-1, 1]."""

    def __call__(self, weights: Mapping[str, Array], obs: Array) -> Array:
        return tf.tanh(self.torso(weights, obs))


@dataclass(frozen=True)
class SquashedPolicy(_Network):
    """Stochastic policy over (-1, 1)^A: obs [B, observation_size] -> SquashedGaussian."""

    log_std_range: tuple[float, float]

    @property
    def outputs(self) -> int:
        """Numbers that the last layer returns."""
        return 2 * self.spec.action_size

    def __call__(self, weights: Mapping[str, Array], obs: Array) -> SquashedGaussian:
        mean, raw = tf.split(at_least_float32(self.torso(weights, obs)), 2, axis=-1)
        low, high = self.log_std_range
        return SquashedGaussian(mean, low + 0.5 * (high - low) * (tf.tanh(raw) + 1.0))


@dataclass(frozen=True)
class ScaledPolicy(_Network):
    """Gaussian policy with a std per state: obs [B, observation_size] -> Gaussian [B, A]."""

    init_std: float

    @property
    def outputs(self) -> int:
        """Numbers that the last layer returns."""
        return 2 * self.spec.action_size

    def __call__(self, weights: Mapping[str, Array], obs: Array) -> Gaussian:
        mean, raw = tf.split(self.torso(weights, obs), 2, axis=-1)
        std = tf.nn.softplus(raw) * (self.init_std / math.log(2.0)) + 1e-6
        return Gaussian(mean, tf.math.log(std))


@dataclass(frozen=True)
class GRU:
    """Dense layers, then a gated recurrent unit: x [T, B, observation_size] -> [T, B, H].

    `hidden` [B, H] is the state before the first step; where `begins` [T, B] is true, the state
    before a step counts as zero.
    """

    name: str
    spec: EnvSpec
    layers: Layers

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """[in, out] of every product."""
        return gru_sizes(self.spec.observation_size, self.layers.sizes)

    def shapes(self) -> _Shapes:
        """Return canonical names and shapes of the weights."""
        out: _Shapes = {}
        for i, (fan_in, fan_out) in enumerate(self.sizes):
            out[f"{self.name}/{i}/kernel"] = (fan_in, fan_out)
            out[f"{self.name}/{i}/bias"] = (fan_out,)
        return out

    def __call__(
        self, weights: Mapping[str, Array], x: Array, hidden: Array, begins: Array
    ) -> Array:
        *dense, of_inputs, of_state = (f"{self.name}/{i}" for i in range(len(self.sizes)))
        rows = tf.reshape(x, (-1, x.shape[-1]))
        for name in dense:
            rows = ACTIVATIONS[self.layers.activation](_dense(weights, name, rows))
        gates = tf.reshape(_dense(weights, of_inputs, rows), (*x.shape[:2], -1))
        kernel, bias = weights[f"{of_state}/kernel"], weights[f"{of_state}/bias"]
        return gru(gates, kernel, bias, hidden, begins)


def _norm_shapes(name: str, size: int) -> _Shapes:
    return {f"{name}/norm/scale": (size,), f"{name}/norm/bias": (size,)}


def _normalize(weights: Mapping[str, Array], name: str, x: Array) -> Array:
    """Apply layer normalization (biased variance, NORM_EPSILON), then scale and bias."""
    wide = at_least_float32(x)
    mean, variance = tf.nn.moments(wide, [-1], keepdims=True)
    normed = tf.nn.batch_normalization(
        wide,
        mean=mean,
        variance=variance,
        offset=at_least_float32(weights[f"{name}/bias"]),
        scale=at_least_float32(weights[f"{name}/scale"]),
        variance_epsilon=NORM_EPSILON,
    )
    return tf.cast(normed, x.dtype)


def _dense(weights: Mapping[str, Array], name: str, x: Array) -> Array:
    return tf.nn.bias_add(tf.matmul(x, weights[f"{name}/kernel"]), weights[f"{name}/bias"])


def _convolve(weights: Mapping[str, Array], name: str, image: Array, stride: int) -> Array:
    out = tf.nn.conv2d(image, weights[f"{name}/kernel"], stride, "VALID")
    return tf.nn.bias_add(out, weights[f"{name}/bias"])
