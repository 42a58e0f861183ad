"""Networks in Keras: layers whose weights come from outside, in a `keras.StatelessScope`.

Layers are built with zeros, once for each agent's definition. `named_variables` of a network are
its variables by their names in it, under which a state has their values.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import keras

from tiebreak.core.errors import UsageError
from tiebreak.core.networks import EXPANSION, Conv, Layers, convolutions, dense_sizes, gru_sizes
from tiebreak.core.types import Array, EnvSpec
from tiebreak.frameworks.keras.ops import (
    Categorical,
    Gaussian,
    MultiCategorical,
    SquashedGaussian,
    categorical,
    gru,
)

NORM_EPSILON = 1e-5
"""Layer normalization's ε, added to the biased variance; libraries default to 1e-6, 1e-5, 1e-3."""
_Variables = dict[str, keras.Variable]


class MLP(keras.Layer):
    """Dense layers with an activation between them; x [B, sizes[0]] -> [B, sizes[-1]]."""

    def __init__(self, sizes: tuple[int, ...], activation: str, dtype: str):
        super().__init__(dtype=dtype)
        *hidden, last = itertools.pairwise(sizes)
        layers = [_dense(*pair, activation, dtype) for pair in hidden]
        self.dense = [*layers, _dense(*last, None, dtype)]
        self.built = True

    def call(self, x: Array) -> Array:
        """Apply every layer."""
        for layer in self.dense:
            x = layer(x)
        return x

    def named_variables(self) -> _Variables:
        """Return the variables by name."""
        return _named(self.dense)


class NormMLP(keras.Layer):
    """Dense layers with LayerNorm and an activation between them; x [B, in] -> [B, sizes[-1]]."""

    def __init__(self, sizes: tuple[int, ...], activation: str, dtype: str):
        super().__init__(dtype=dtype)
        *hidden, last = itertools.pairwise(sizes)
        self.hidden = [
            _Normed(_dense(*pair, None, dtype), pair[1], activation, dtype) for pair in hidden
        ]
        self.last = _dense(*last, None, dtype)
        self.built = True

    def call(self, x: Array) -> Array:
        """Apply every layer."""
        for layer in self.hidden:
            x = layer(x)
        return self.last(x)

    def named_variables(self) -> _Variables:
        """Return the variables by name."""
        return _named_normed(self.hidden) | _named_layer(self.last, f"{len(self.hidden)}")


class ResidualBlock(keras.Layer):
    """x plus what LayerNorm, a wide dense layer, an activation and a dense layer make of it."""

    def __init__(self, width: int, activation: str, dtype: str):
        super().__init__(dtype=dtype)
        wide = EXPANSION * width
        self.norm = _layer_norm(width, dtype)
        self.dense = [_dense(width, wide, activation, dtype), _dense(wide, width, None, dtype)]
        self.built = True

    def call(self, x: Array) -> Array:
        """Apply the block."""
        hidden = self.norm(x)
        for layer in self.dense:
            hidden = layer(hidden)
        return x + hidden

    def named_variables(self) -> _Variables:
        """Return the variables by name."""
        return _named(self.dense) | _named_norm(self.norm)


class SimBa(keras.Layer):
    """A dense layer, residual blocks, LayerNorm and a dense layer (Lee et al. 2024)."""

    def __init__(self, sizes: tuple[int, ...], activation: str, dtype: str):
        super().__init__(dtype=dtype)
        inputs, *widths, outputs = sizes
        self.first = _dense(inputs, widths[0], None, dtype)
        self.block = [ResidualBlock(width, activation, dtype) for width in widths]
        self.norm = _layer_norm(widths[0], dtype)
        self.last = _dense(widths[0], outputs, None, dtype)
        self.built = True

    def call(self, x: Array) -> Array:
        """Apply every layer."""
        x = self.first(x)
        for block in self.block:
            x = block(x)
        return self.last(self.norm(x))

    def named_variables(self) -> _Variables:
        """Return the variables by name."""
        variables = _named([self.first, self.last]) | _named_norm(self.norm)
        for i, block in enumerate(self.block):
            variables |= {f"block/{i}/{k}": v for k, v in block.named_variables().items()}
        return variables


class CNN(keras.Layer):
    """Convolutions over the image that x begins with, then dense layers over that and the rest.

    x [..., sizes[0]] -> [..., sizes[-1]]; `shape` is the image's, [height, width, channels].
    """

    def __init__(self, shape: tuple[int, ...], sizes: tuple[int, ...], activation: str, dtype: str):
        super().__init__(dtype=dtype)
        self.shape = shape
        self.conv = _conv_layers(shape, activation, dtype)
        self.torso = MLP(dense_sizes("cnn", shape, sizes), activation, dtype)
        self.built = True

    def call(self, x: Array) -> Array:
        """Apply every layer."""
        size = math.prod(self.shape)
        image = keras.ops.reshape(x[..., :size], (-1, *self.shape))
        for layer in self.conv:
            image = layer(image)
        seen = keras.ops.reshape(flatten_image(image), (*x.shape[:-1], -1))
        return self.torso(keras.ops.concatenate([seen, x[..., size:]], axis=-1))

    def named_variables(self) -> _Variables:
        """Return the variables by name."""
        return _named(self.conv, "conv/") | self.torso.named_variables()


class NormCNN(keras.Layer):
    """A CNN with LayerNorm before each activation; of an image, over the channels of each pixel.

    x [..., sizes[0]] -> [..., sizes[-1]]; `shape` is the image's, [height, width, channels].
    """

    def __init__(self, shape: tuple[int, ...], sizes: tuple[int, ...], activation: str, dtype: str):
        super().__init__(dtype=dtype)
        self.shape = shape
        layers = _conv_layers(shape, None, dtype)
        self.conv = [_Normed(layer, layer.filters, activation, dtype) for layer in layers]
        self.torso = NormMLP(dense_sizes("norm_cnn", shape, sizes), activation, dtype)
        self.built = True

    def call(self, x: Array) -> Array:
        """Apply every layer."""
        size = math.prod(self.shape)
        image = keras.ops.reshape(x[..., :size], (-1, *self.shape))
        for layer in self.conv:
            image = layer(image)
        seen = keras.ops.reshape(flatten_image(image), (*x.shape[:-1], -1))
        return self.torso(keras.ops.concatenate([seen, x[..., size:]], axis=-1))

    def named_variables(self) -> _Variables:
        """Return the variables by name."""
        return _named_normed(self.conv, "conv/") | self.torso.named_variables()


def flatten_image(image: Array) -> Array:
    """Flatten images [B, H, W, C] to [B, H·W·C], channels fastest."""
    return keras.ops.reshape(image, (image.shape[0], -1))


TORSOS: dict[str, Callable] = {"mlp": MLP, "norm_mlp": NormMLP, "simba": SimBa}
"""Layers between a network's inputs and outputs, by name."""
IMAGE_TORSOS: dict[str, Callable] = {"cnn": CNN, "norm_cnn": NormCNN}
"""Those that need the image's shape, too."""


def make_torso(
    layers: Layers, shape: tuple[int, ...], sizes: tuple[int, ...], dtype: str
) -> MLP | NormMLP | SimBa | CNN | NormCNN:
    """Return the layers of a network: x [B, sizes[0]] -> [B, sizes[-1]].

    `shape` is that of observations, with which x begins. Raises UsageError for a network that is
    not written in Keras.
    """
    if layers.kind in IMAGE_TORSOS:
        return IMAGE_TORSOS[layers.kind](shape, sizes, layers.activation, dtype)
    if layers.kind not in TORSOS:
        valid = ", ".join((*TORSOS, *IMAGE_TORSOS))
        raise UsageError(f"framework 'keras' has no network {layers.kind!r} (valid: {valid})")
    return TORSOS[layers.kind](sizes, layers.activation, dtype)


class Policy(keras.Layer):
    """Stochastic policy: obs [B, observation_size] -> distribution over actions."""

    def __init__(self, spec: EnvSpec, layers: Layers, dtype: str):
        super().__init__(dtype=dtype)
        sizes = (spec.observation_size, *layers.sizes, spec.action_size)
        self.torso = make_torso(layers, spec.observation_shape, sizes, dtype)
        self.nvec, self.log_std = spec.nvec, None
        if not spec.discrete:
            self.log_std = self.add_weight(shape=(spec.action_size,), initializer="zeros")
        self.built = True

    def call(self, obs: Array) -> Categorical | MultiCategorical | Gaussian:
        """Return the distribution over actions."""
        out = self.torso(obs)
        if self.log_std is None:
            return categorical(out, self.nvec)
        return Gaussian(out, self.log_std.value)  # its value in this scope, not the variable

    def named_variables(self) -> _Variables:
        """Return the variables by name."""
        own = {} if self.log_std is None else {"log_std": self.log_std}
        return own | self.torso.named_variables()


class Value(keras.Layer):
    """State value: obs [B, observation_size] -> [B]."""

    def __init__(self, spec: EnvSpec, layers: Layers, dtype: str):
        super().__init__(dtype=dtype)
        sizes = (spec.observation_size, *layers.sizes, 1)
        self.torso = make_torso(layers, spec.observation_shape, sizes, dtype)
        self.built = True

    def call(self, obs: Array) -> Array:
        """Return the critic's estimates."""
        return self.torso(obs)[..., 0]

    def named_variables(self) -> _Variables:
        """Return the variables by name."""
        return self.torso.named_variables()


class ActionValues(keras.Layer):
    """Q of every discrete action: obs [B, observation_size] -> [B, num_actions].

    With more `atoms` than one, the logits of as many possible returns: [B, num_actions, atoms].
    """

    def __init__(self, spec: EnvSpec, layers: Layers, dtype: str, atoms: int = 1):
        super().__init__(dtype=dtype)
        sizes = (spec.observation_size, *layers.sizes, spec.action_size * atoms)
        self.torso = make_torso(layers, spec.observation_shape, sizes, dtype)
        self.shape = (spec.action_size, atoms)
        self.built = True

    def call(self, obs: Array) -> Array:
        """Return the values of all actions, or the logits of their returns."""
        out = self.torso(obs)
        return keras.ops.reshape(out, (-1, *self.shape)) if self.shape[1] > 1 else out

    def named_variables(self) -> _Variables:
        """Return the variables by name."""
        return self.torso.named_variables()


class Critic(keras.Layer):
    """Q of one action: obs [B, observation_size], action [B, action_size] -> [B]."""

    def __init__(self, spec: EnvSpec, layers: Layers, dtype: str):
        super().__init__(dtype=dtype)
        sizes = (spec.observation_size + spec.action_size, *layers.sizes, 1)
        self.torso = make_torso(layers, spec.observation_shape, sizes, dtype)
        self.built = True

    def call(self, obs: Array, action: Array) -> Array:
        """Return the values of the actions."""
        return self.torso(keras.ops.concatenate([obs, action], axis=-1))[..., 0]

    def named_variables(self) -> _Variables:
        """Return the variables by name."""
        return self.torso.named_variables()


class SquashedPolicy(keras.Layer):
    """Stochastic policy over (-1, 1)^A: obs [B, observation_size] -> SquashedGaussian."""

    def __init__(
        self,
        spec: EnvSpec,
        layers: Layers,
        log_std_range: tuple[float, float],
        dtype: str,
    ):
        super().__init__(dtype=dtype)
        sizes = (spec.observation_size, *layers.sizes, 2 * spec.action_size)
        self.torso = make_torso(layers, spec.observation_shape, sizes, dtype)
        self.log_std_range = log_std_range
        self.built = True

    def call(self, obs: Array) -> SquashedGaussian:
        """Return the distribution over actions."""
        mean, raw = keras.ops.split(self.torso(obs), 2, axis=-1)
        low, high = self.log_std_range
        log_std = low + 0.5 * (high - low) * (keras.ops.tanh(raw) + 1.0)
        return SquashedGaussian(mean, log_std)

    def named_variables(self) -> _Variables:
        """Return the variables by name."""
        return self.torso.named_variables()


class GRU(keras.Layer):
    """Dense layers, then a gated recurrent unit: x [T, B, observation_size] -> [T, B, H].

    `hidden` [B, H] is the state before the first step; where `begins` [T, B] is true, the state
    before a step counts as zero.
    """

    def __init__(self, spec: EnvSpec, layers: Layers, dtype: str):
        super().__init__(dtype=dtype)
        *hidden, of_inputs, of_state = gru_sizes(spec.observation_size, layers.sizes)
        dense = [_dense(*pair, layers.activation, dtype) for pair in hidden]
        self.dense = [*dense, _dense(*of_inputs, None, dtype), _dense(*of_state, None, dtype)]
        self.built = True

    def call(self, x: Array, hidden: Array, begins: Array) -> Array:
        """Return the states after each step."""
        *layers, of_state = self.dense
        rows = keras.ops.reshape(x, (-1, x.shape[-1]))
        for layer in layers:
            rows = layer(rows)
        gates = keras.ops.reshape(rows, (*x.shape[:2], -1))
        return gru(gates, of_state.kernel.value, of_state.bias.value, hidden, begins)

    def named_variables(self) -> _Variables:
        """Return the variables by name."""
        return _named(self.dense)


class _Normed(keras.Layer):
    """A layer, LayerNorm over the last axis of its outputs, and an activation."""

    def __init__(self, layer: keras.Layer, width: int, activation: str, dtype: str):
        super().__init__(dtype=dtype)
        self.layer = layer
        self.norm = _layer_norm(width, dtype)
        self.activation = keras.activations.get(activation)
        self.built = True

    def call(self, x: Array) -> Array:
        return self.activation(self.norm(self.layer(x)))


def _dense(inputs: int, outputs: int, activation: str | None, dtype: str) -> keras.layers.Dense:
    layer = keras.layers.Dense(outputs, activation, kernel_initializer="zeros", dtype=dtype)
    layer.build((None, inputs))
    return layer


def _layer_norm(size: int, dtype: str) -> keras.layers.LayerNormalization:
    layer = keras.layers.LayerNormalization(epsilon=NORM_EPSILON, dtype=dtype)
    layer.build((None, size))
    return layer


def _conv_layers(
    shape: tuple[int, ...], activation: str | None, dtype: str
) -> list[keras.layers.Conv2D]:
    """Return convolutions over images [B, height, width, channels]."""
    layers: list[keras.layers.Conv2D] = []
    for conv in convolutions(shape):
        layer = _conv(conv, activation, dtype)
        layer.build((None, *shape))
        shape = layer.compute_output_shape((None, *shape))[1:]
        layers.append(layer)
    return layers


def _conv(conv: Conv, activation: str | None, dtype: str) -> keras.layers.Conv2D:
    return keras.layers.Conv2D(
        conv.channels,
        conv.window,
        conv.stride,
        data_format="channels_last",  # a user's keras.json may have another default
        activation=activation,
        kernel_initializer="zeros",
        dtype=dtype,
    )


def _named(layers: Sequence[keras.Layer], prefix: str = "") -> _Variables:
    """Return kernels and biases by the numbers of their layers."""
    variables: _Variables = {}
    for i, layer in enumerate(layers):
        variables |= _named_layer(layer, f"{prefix}{i}")
    return variables


def _named_normed(layers: Sequence[_Normed], prefix: str = "") -> _Variables:
    """Return the variables of layers and of their LayerNorms by the numbers of the layers."""
    variables: _Variables = {}
    for i, normed in enumerate(layers):
        variables |= _named_layer(normed.layer, f"{prefix}{i}")
        variables |= _named_norm(normed.norm, f"{prefix}{i}/norm")
    return variables


def _named_layer(layer: keras.Layer, name: str) -> _Variables:
    names = f"{name}/kernel", f"{name}/bias"
    return dict(zip(names, layer.trainable_variables, strict=True))


def _named_norm(layer: keras.layers.LayerNormalization, name: str = "norm") -> _Variables:
    names = f"{name}/scale", f"{name}/bias"
    return dict(zip(names, layer.trainable_variables, strict=True))
