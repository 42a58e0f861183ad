"""Networks in Flax NNX."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
from flax import nnx

from tiebreak.core.types import Array, EnvSpec
from tiebreak.ops.jax_ops import Categorical, Gaussian

ACTIVATIONS: dict[str, Callable] = {"tanh": jax.numpy.tanh, "relu": jax.nn.relu}


class MLP(nnx.Module):
    """Dense layers with an activation between them; x [B, sizes[0]] -> [B, sizes[-1]]."""

    def __init__(self, sizes: tuple[int, ...], activation: str, dtype: str, rngs: nnx.Rngs):
        self.layers = nnx.List(
            nnx.Linear(a, b, dtype=dtype, param_dtype=dtype, rngs=rngs)
            for a, b in itertools.pairwise(sizes)
        )
        self.activation = activation

    def __call__(self, x: Array) -> Array:
        for layer in self.layers[:-1]:
            x = ACTIVATIONS[self.activation](layer(x))
        return self.layers[-1](x)


class Policy(nnx.Module):
    """Stochastic policy: obs [B, observation_size] -> Categorical or Gaussian."""

    def __init__(
        self,
        spec: EnvSpec,
        hidden_sizes: tuple[int, ...],
        activation: str,
        dtype: str,
        rngs: nnx.Rngs,
    ):
        sizes = (spec.observation_size, *hidden_sizes, spec.action_size)
        self.mlp = MLP(sizes, activation, dtype, rngs)
        if not spec.discrete:
            self.log_std = nnx.Param(jax.numpy.zeros(spec.action_size, dtype))
        self.discrete = spec.discrete

    def __call__(self, obs: Array) -> Categorical | Gaussian:
        out = self.mlp(obs)
        return Categorical(out) if self.discrete else Gaussian(out, self.log_std[...])


class Value(nnx.Module):
    """State value: obs [B, observation_size] -> [B]."""

    def __init__(
        self,
        spec: EnvSpec,
        hidden_sizes: tuple[int, ...],
        activation: str,
        dtype: str,
        rngs: nnx.Rngs,
    ):
        sizes = (spec.observation_size, *hidden_sizes, 1)
        self.mlp = MLP(sizes, activation, dtype, rngs)

    def __call__(self, obs: Array) -> Array:
        return self.mlp(obs)[..., 0]
