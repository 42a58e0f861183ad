"""Networks in TensorFlow: descriptions without weights, applied to named tensors.

`weights` maps canonical names (`actor/0/kernel`) to tensors. Keras layers would own their
variables one by one; here all weights are cut out of one vector (see tensorflow_ops.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import tensorflow as tf

from tiebreak.core.types import Array, EnvSpec
from tiebreak.ops.tensorflow_ops import Categorical, Gaussian

ACTIVATIONS: dict[str, Callable] = {"tanh": tf.tanh, "relu": tf.nn.relu}


class MLP(NamedTuple):
    """Dense layers with an activation between them; x [B, sizes[0]] -> [B, sizes[-1]]."""

    name: str
    sizes: tuple[int, ...]
    activation: str

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Canonical names and shapes of the weights."""
        out: dict[str, tuple[int, ...]] = {}
        for i, (fan_in, fan_out) in enumerate(zip(self.sizes[:-1], self.sizes[1:], strict=True)):
            out[f"{self.name}/{i}/kernel"], out[f"{self.name}/{i}/bias"] = (
                (fan_in, fan_out),
                (fan_out,),
            )
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
        """The network under it."""
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
        if self.spec.discrete:
            return Categorical(out)
        return Gaussian(out, weights["actor/log_std"])


class Value(NamedTuple):
    """State value: obs [B, observation_size] -> [B]."""

    spec: EnvSpec
    hidden_sizes: tuple[int, ...]
    activation: str

    @property
    def mlp(self) -> MLP:
        """The network under it."""
        sizes = (self.spec.observation_size, *self.hidden_sizes, 1)
        return MLP("critic", sizes, self.activation)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Canonical names and shapes of the weights."""
        return self.mlp.shapes()

    def __call__(self, weights: Mapping[str, Array], obs: Array) -> Array:
        return self.mlp(weights, obs)[..., 0]
