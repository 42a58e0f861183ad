"""Networks in TensorFlow: descriptions without weights, applied to named tensors.

`weights` maps canonical names (`actor/0/kernel`) to tensors. Keras layers would own their
variables one by one; here all weights are cut out of one vector (see tensorflow_ops.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import tensorflow as tf

from tiebreak.core.types import Array, EnvSpec
from tiebreak.frameworks.tensorflow.ops import Categorical, Gaussian, SquashedGaussian

ACTIVATIONS: dict[str, Callable] = {"tanh": tf.tanh, "relu": tf.nn.relu}
NORM_EPSILON = 1e-5
"""Layer normalization's ε, added to the biased variance; libraries' own are 1e-6, 1e-5, 1e-3."""


class MLP(NamedTuple):
    """Dense layers with an activation between them; x [B, sizes[0]] -> [B, sizes[-1]]."""

    name: str
    sizes: tuple[int, ...]
    activation: str

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Canonical names and shapes of the weights."""
        out: dict[str, tuple[int, ...]] = {}
        for i, (fan_in, fan_out) in enumerate(zip(self.sizes[:-1], self.sizes[1:], strict=True)):
            out[f"{self.name}/{i}/kernel"] = fan_in, fan_out
            out[f"{self.name}/{i}/bias"] = (fan_out,)
        return out

    def __call__(self, weights: Mapping[str, Array], x: Array) -> Array:
        layers = len(self.sizes) - 1
        for i in range(layers):
            x = tf.matmul(x, weights[f"{self.name}/{i}/kernel"])
            x = tf.nn.bias_add(x, weights[f"{self.name}/{i}/bias"])
            if i < layers - 1:
                x = ACTIVATIONS[self.activation](x)
        return x


class Policy(NamedTuple):
    """Stochastic policy: obs [B, observation_size] -> Categorical or Gaussian."""

    spec: EnvSpec
    hidden_sizes: tuple[int, ...]
    activation: str

    @property
    def mlp(self) -> MLP:
        sizes = (self.spec.observation_size, *self.hidden_sizes, self.spec.action_size)
        return MLP("actor", sizes, self.activation)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Canonical names and shapes of the weights."""
        out = self.mlp.shapes()
        if not self.spec.discrete:
            out["actor/log_std"] = (self.spec.action_size,)
        return out

    def __call__(self, weights: Mapping[str, Array], obs: Array) -> Categorical | Gaussian:
        out = self.mlp(weights, obs)
        return Categorical(out) if self.spec.discrete else Gaussian(out, weights["actor/log_std"])


class Value(NamedTuple):
    """State value: obs [B, observation_size] -> [B]."""

    spec: EnvSpec
    hidden_sizes: tuple[int, ...]
    activation: str

    @property
    def mlp(self) -> MLP:
        sizes = (self.spec.observation_size, *self.hidden_sizes, 1)
        return MLP("critic", sizes, self.activation)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Canonical names and shapes of the weights."""
        return self.mlp.shapes()

    def __call__(self, weights: Mapping[str, Array], obs: Array) -> Array:
        return self.mlp(weights, obs)[..., 0]


class ActionValues(NamedTuple):
    """Q of every discrete action: obs [B, observation_size] -> [B, num_actions]."""

    name: str
    spec: EnvSpec
    hidden_sizes: tuple[int, ...]
    activation: str

    @property
    def mlp(self) -> MLP:
        sizes = (self.spec.observation_size, *self.hidden_sizes, self.spec.action_size)
        return MLP(self.name, sizes, self.activation)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Canonical names and shapes of the weights."""
        return self.mlp.shapes()

    def __call__(self, weights: Mapping[str, Array], obs: Array) -> Array:
        return self.mlp(weights, obs)


class Critic(NamedTuple):
    """Q of one action: obs [B, observation_size], action [B, action_size] -> [B].

    With `atoms`, the logits of as many possible returns instead: [B, atoms].
    """

    name: str
    spec: EnvSpec
    hidden_sizes: tuple[int, ...]
    activation: str
    atoms: int = 0

    @property
    def mlp(self) -> MLP:
        seen = self.spec.observation_size + self.spec.action_size
        return MLP(self.name, (seen, *self.hidden_sizes, self.atoms or 1), self.activation)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Canonical names and shapes of the weights."""
        return self.mlp.shapes()

    def __call__(self, weights: Mapping[str, Array], obs: Array, action: Array) -> Array:
        out = self.mlp(weights, tf.concat([obs, action], axis=-1))
        return out if self.atoms else out[..., 0]


class DeterministicPolicy(NamedTuple):
    """One action per state: obs [B, observation_size] -> [B, action_size] in [-1, 1]."""

    name: str
    spec: EnvSpec
    hidden_sizes: tuple[int, ...]
    activation: str

    @property
    def mlp(self) -> MLP:
        sizes = (self.spec.observation_size, *self.hidden_sizes, self.spec.action_size)
        return MLP(self.name, sizes, self.activation)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Canonical names and shapes of the weights."""
        return self.mlp.shapes()

    def __call__(self, weights: Mapping[str, Array], obs: Array) -> Array:
        return tf.tanh(self.mlp(weights, obs))


class SquashedPolicy(NamedTuple):
    """Stochastic policy over (-1, 1)^A: obs [B, observation_size] -> SquashedGaussian."""

    name: str
    spec: EnvSpec
    hidden_sizes: tuple[int, ...]
    activation: str
    log_std_range: tuple[float, float]

    @property
    def mlp(self) -> MLP:
        sizes = (self.spec.observation_size, *self.hidden_sizes, 2 * self.spec.action_size)
        return MLP(self.name, sizes, self.activation)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Canonical names and shapes of the weights."""
        return self.mlp.shapes()

    def __call__(self, weights: Mapping[str, Array], obs: Array) -> SquashedGaussian:
        mean, raw = tf.split(self.mlp(weights, obs), 2, axis=-1)
        low, high = self.log_std_range
        return SquashedGaussian(mean, low + 0.5 * (high - low) * (tf.tanh(raw) + 1.0))


class LayerNormMLP(NamedTuple):
    """Dense, LayerNorm, tanh, then dense layers with ELU between; x [B, in] -> [B, sizes[-1]]."""

    name: str
    sizes: tuple[int, ...]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Canonical names and shapes of the weights."""
        norm = {f"{self.name}/norm/{kind}": self.sizes[1:2] for kind in ("scale", "bias")}
        return {**MLP(self.name, self.sizes, "").shapes(), **norm}

    def __call__(self, weights: Mapping[str, Array], x: Array) -> Array:
        layers = len(self.sizes) - 1
        for i in range(layers):
            x = tf.matmul(x, weights[f"{self.name}/{i}/kernel"])
            x = tf.nn.bias_add(x, weights[f"{self.name}/{i}/bias"])
            if i == 0:
                affine = weights[f"{self.name}/norm/bias"], weights[f"{self.name}/norm/scale"]
                moments = tf.nn.moments(x, [-1], keepdims=True)
                x = tf.tanh(tf.nn.batch_normalization(x, *moments, *affine, NORM_EPSILON))
            elif i < layers - 1:
                x = tf.nn.elu(x)
        return x


class LayerNormPolicy(NamedTuple):
    """Gaussian policy with a std per state: obs [B, observation_size] -> Gaussian [B, A]."""

    name: str
    spec: EnvSpec
    hidden_sizes: tuple[int, ...]
    init_std: float

    @property
    def mlp(self) -> LayerNormMLP:
        sizes = (self.spec.observation_size, *self.hidden_sizes, 2 * self.spec.action_size)
        return LayerNormMLP(self.name, sizes)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Canonical names and shapes of the weights."""
        return self.mlp.shapes()

    def __call__(self, weights: Mapping[str, Array], obs: Array) -> Gaussian:
        mean, raw = tf.split(self.mlp(weights, obs), 2, axis=-1)
        std = tf.nn.softplus(raw) * (self.init_std / math.log(2.0)) + 1e-6
        return Gaussian(mean, tf.math.log(std))


class LayerNormCritic(NamedTuple):
    """Q of one action: obs [B, observation_size], action [B, action_size] -> [B]."""

    name: str
    spec: EnvSpec
    hidden_sizes: tuple[int, ...]

    @property
    def mlp(self) -> LayerNormMLP:
        sizes = (self.spec.observation_size + self.spec.action_size, *self.hidden_sizes, 1)
        return LayerNormMLP(self.name, sizes)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Canonical names and shapes of the weights."""
        return self.mlp.shapes()

    def __call__(self, weights: Mapping[str, Array], obs: Array, action: Array) -> Array:
        return self.mlp(weights, tf.concat([obs, action], axis=-1))[..., 0]
