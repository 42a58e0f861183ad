"""Networks in Flax NNX."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import jax
from flax import nnx

from tiebreak.core.types import Array, EnvSpec
from tiebreak.frameworks.jax.ops import Categorical, Gaussian, SquashedGaussian

ACTIVATIONS: dict[str, Callable] = {"tanh": jax.numpy.tanh, "relu": jax.nn.relu}
NORM_EPSILON = 1e-5
"""Layer normalization's ε, added to the biased variance; libraries' own are 1e-6, 1e-5, 1e-3."""


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


class ActionValues(nnx.Module):
    """Q of every discrete action: obs [B, observation_size] -> [B, num_actions]."""

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

    def __call__(self, obs: Array) -> Array:
        return self.mlp(obs)


class Critic(nnx.Module):
    """Q of one action: obs [B, observation_size], action [B, action_size] -> [B].

    With `atoms`, the logits of as many possible returns instead: [B, atoms].
    """

    def __init__(
        self,
        spec: EnvSpec,
        hidden_sizes: tuple[int, ...],
        activation: str,
        dtype: str,
        rngs: nnx.Rngs,
        atoms: int = 0,
    ):
        sizes = (spec.observation_size + spec.action_size, *hidden_sizes, atoms or 1)
        self.mlp = MLP(sizes, activation, dtype, rngs)
        self.atoms = atoms

    def __call__(self, obs: Array, action: Array) -> Array:
        out = self.mlp(jax.numpy.concatenate([obs, action], axis=-1))
        return out if self.atoms else out[..., 0]


class DeterministicPolicy(nnx.Module):
    """One action per state: obs [B, observation_size] -> [B, action_size] in [-1, 1]."""

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

    def __call__(self, obs: Array) -> Array:
        return jax.numpy.tanh(self.mlp(obs))


class SquashedPolicy(nnx.Module):
    """Stochastic policy over (-1, 1)^A: obs [B, observation_size] -> SquashedGaussian."""

    def __init__(
        self,
        spec: EnvSpec,
        hidden_sizes: tuple[int, ...],
        activation: str,
        log_std_range: tuple[float, float],
        dtype: str,
        rngs: nnx.Rngs,
    ):
        sizes = (spec.observation_size, *hidden_sizes, 2 * spec.action_size)
        self.mlp = MLP(sizes, activation, dtype, rngs)
        self.log_std_range = log_std_range

    def __call__(self, obs: Array) -> SquashedGaussian:
        mean, raw = jax.numpy.split(self.mlp(obs), 2, axis=-1)
        low, high = self.log_std_range
        return SquashedGaussian(mean, low + 0.5 * (high - low) * (jax.numpy.tanh(raw) + 1.0))


class LayerNormMLP(nnx.Module):
    """Dense, LayerNorm, tanh, then dense layers with ELU between; x [B, in] -> [B, sizes[-1]]."""

    def __init__(self, sizes: tuple[int, ...], dtype: str, rngs: nnx.Rngs):
        kind = {"dtype": dtype, "param_dtype": dtype, "rngs": rngs}
        self.layers = nnx.List(nnx.Linear(a, b, **kind) for a, b in itertools.pairwise(sizes))
        # The fast variance, E x² − (E x)², loses half of the digits.
        self.norm = nnx.LayerNorm(sizes[1], epsilon=NORM_EPSILON, use_fast_variance=False, **kind)

    def __call__(self, x: Array) -> Array:
        x = jax.numpy.tanh(self.norm(self.layers[0](x)))
        for layer in self.layers[1:-1]:
            x = jax.nn.elu(layer(x))
        return self.layers[-1](x)


class LayerNormPolicy(nnx.Module):
    """Gaussian policy with a std per state: obs [B, observation_size] -> Gaussian [B, A]."""

    def __init__(
        self,
        spec: EnvSpec,
        hidden_sizes: tuple[int, ...],
        init_std: float,
        dtype: str,
        rngs: nnx.Rngs,
    ):
        sizes = (spec.observation_size, *hidden_sizes, 2 * spec.action_size)
        self.mlp = LayerNormMLP(sizes, dtype, rngs)
        self.init_std = init_std

    def __call__(self, obs: Array) -> Gaussian:
        mean, raw = jax.numpy.split(self.mlp(obs), 2, axis=-1)
        std = jax.nn.softplus(raw) * (self.init_std / math.log(2.0)) + 1e-6
        return Gaussian(mean, jax.numpy.log(std))


class LayerNormCritic(nnx.Module):
    """Q of one action: obs [B, observation_size], action [B, action_size] -> [B]."""

    def __init__(self, spec: EnvSpec, hidden_sizes: tuple[int, ...], dtype: str, rngs: nnx.Rngs):
        sizes = (spec.observation_size + spec.action_size, *hidden_sizes, 1)
        self.mlp = LayerNormMLP(sizes, dtype, rngs)

    def __call__(self, obs: Array, action: Array) -> Array:
        return self.mlp(jax.numpy.concatenate([obs, action], axis=-1))[..., 0]
