"""Networks in Equinox; layers take one example, so batches go through vmap."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import equinox as eqx
import jax

from tiebreak.core.types import Array, EnvSpec
from tiebreak.ops.jax_ops import Categorical, Gaussian

ACTIVATIONS: dict[str, Callable] = {"tanh": jax.numpy.tanh, "relu": jax.nn.relu}


class MLP(eqx.Module):
    """Dense layers with an activation between them; x [B, sizes[0]] -> [B, sizes[-1]]."""

    layers: list[eqx.nn.Linear]
    activation: str = eqx.field(static=True)

    def __init__(self, sizes: tuple[int, ...], activation: str, dtype: str, key: Array):
        pairs = itertools.pairwise(sizes)
        self.layers = [eqx.nn.Linear(a, b, dtype=dtype, key=key) for a, b in pairs]
        self.activation = activation

    def __call__(self, x: Array) -> Array:
        for layer in self.layers[:-1]:
            x = ACTIVATIONS[self.activation](jax.vmap(layer)(x))
        return jax.vmap(self.layers[-1])(x)


class Policy(eqx.Module):
    """Stochastic policy: obs [B, observation_size] -> Categorical or Gaussian."""

    mlp: MLP
    log_std: Array | None

    def __init__(
        self, spec: EnvSpec, hidden_sizes: tuple[int, ...], activation: str, dtype: str, key: Array
    ):
        sizes = (spec.observation_size, *hidden_sizes, spec.action_size)
        self.mlp = MLP(sizes, activation, dtype, key)
        self.log_std = None if spec.discrete else jax.numpy.zeros(spec.action_size, dtype)

    def __call__(self, obs: Array) -> Categorical | Gaussian:
        out = self.mlp(obs)
        return Categorical(out) if self.log_std is None else Gaussian(out, self.log_std)


class Value(eqx.Module):
    """State value: obs [B, observation_size] -> [B]."""

    mlp: MLP

    def __init__(
        self, spec: EnvSpec, hidden_sizes: tuple[int, ...], activation: str, dtype: str, key: Array
    ):
        self.mlp = MLP((spec.observation_size, *hidden_sizes, 1), activation, dtype, key)

    def __call__(self, obs: Array) -> Array:
        return self.mlp(obs)[..., 0]
