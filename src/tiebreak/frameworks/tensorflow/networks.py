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
from typing import ClassVar

import tensorflow as tf

from tiebreak.core.types import Array, EnvSpec
from tiebreak.frameworks.tensorflow.ops import Categorical, Gaussian, SquashedGaussian

ACTIVATIONS: dict[str, Callable] = {"tanh": tf.tanh, "relu": tf.nn.relu, "elu": tf.nn.elu}
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
        out[f"{self.name}/norm/scale"] = self.sizes[1:2]
        out[f"{self.name}/norm/bias"] = self.sizes[1:2]
        return out

    def __call__(self, weights: Mapping[str, Array], x: Array) -> Array:
        layers = len(self.sizes) - 1
        for i in range(layers):
            x = _dense(weights, f"{self.name}/{i}", x)
            if i == 0:
                x = tf.tanh(self._normalize(weights, x))
            elif i < layers - 1:
                x = ACTIVATIONS[self.activation](x)
        return x

    def _normalize(self, weights: Mapping[str, Array], x: Array) -> Array:
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        return tf.nn.batch_normalization(
            x,
            mean=mean,
            variance=variance,
            offset=weights[f"{self.name}/norm/bias"],
            scale=weights[f"{self.name}/norm/scale"],
            variance_epsilon=NORM_EPSILON,
        )


TORSOS: dict[str, Callable] = {"mlp": MLP, "layer_norm_mlp": LayerNormMLP}
"""Layers between a network's inputs and outputs, by name."""


def make_torso(kind: str, name: str, sizes: tuple[int, ...], activation: str) -> Callable:
    """Return the layers of a network: x [B, sizes[0]] -> [B, sizes[-1]]; `kind` is of TORSOS."""
    return TORSOS[kind](name, sizes, activation)


@dataclass(frozen=True)
class _Network:
    """Layers called `name`, and what a subclass makes of their outputs."""

    name: str
    spec: EnvSpec
    hidden_sizes: tuple[int, ...]
    activation: str

    torso_kind: ClassVar = "mlp"

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
        sizes = (self.inputs, *self.hidden_sizes, self.outputs)
        return make_torso(self.torso_kind, self.name, sizes, self.activation)

    def shapes(self) -> _Shapes:
        """Return canonical names and shapes of the weights."""
        return self.torso.shapes()


class Policy(_Network):
    """Stochastic policy: obs [B, observation_size] -> Categorical or Gaussian."""

    def shapes(self) -> _Shapes:
        """Return canonical names and shapes of the weights."""
        out = super().shapes()
        if not self.spec.discrete:
            out[f"{self.name}/log_std"] = (self.spec.action_size,)
        return out

    def __call__(self, weights: Mapping[str, Array], obs: Array) -> Categorical | Gaussian:
        out = self.torso(weights, obs)
        if self.spec.discrete:
            return Categorical(out)
        return Gaussian(out, weights[f"{self.name}/log_std"])


class Value(_Network):
    """State value: obs [B, observation_size] -> [B]."""

    @property
    def outputs(self) -> int:
        """Numbers that the last layer returns."""
        return 1

    def __call__(self, weights: Mapping[str, Array], obs: Array) -> Array:
        return self.torso(weights, obs)[..., 0]


class ActionValues(_Network):
    """Q of every discrete action: obs [B, observation_size] -> [B, num_actions]."""

    def __call__(self, weights: Mapping[str, Array], obs: Array) -> Array:
        return self.torso(weights, obs)


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
        mean, raw = tf.split(self.torso(weights, obs), 2, axis=-1)
        low, high = self.log_std_range
        return SquashedGaussian(mean, low + 0.5 * (high - low) * (tf.tanh(raw) + 1.0))


@dataclass(frozen=True)
class LayerNormPolicy(_Network):
    """Gaussian policy with a std per state: obs [B, observation_size] -> Gaussian [B, A]."""

    init_std: float

    torso_kind: ClassVar = "layer_norm_mlp"

    @property
    def outputs(self) -> int:
        """Numbers that the last layer returns."""
        return 2 * self.spec.action_size

    def __call__(self, weights: Mapping[str, Array], obs: Array) -> Gaussian:
        mean, raw = tf.split(self.torso(weights, obs), 2, axis=-1)
        std = tf.nn.softplus(raw) * (self.init_std / math.log(2.0)) + 1e-6
        return Gaussian(mean, tf.math.log(std))


class LayerNormCritic(Critic):
    """Q of one action: obs [B, observation_size], action [B, action_size] -> [B]."""

    torso_kind = "layer_norm_mlp"


def _dense(weights: Mapping[str, Array], name: str, x: Array) -> Array:
    return tf.nn.bias_add(tf.matmul(x, weights[f"{name}/kernel"]), weights[f"{name}/bias"])
