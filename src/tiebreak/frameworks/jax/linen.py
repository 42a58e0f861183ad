"""Networks in Flax Linen."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
from flax import linen as nn

from tiebreak.core.types import Array, EnvSpec
from tiebreak.frameworks.jax.ops import Categorical, Gaussian, SquashedGaussian

ACTIVATIONS: dict[str, Callable] = {"tanh": jax.numpy.tanh, "relu": jax.nn.relu}
NORM_EPSILON = 1e-5
"""Layer normalization's ε, added to the biased variance; libraries' own are 1e-6, 1e-5, 1e-3."""


class MLP(nn.Module):
    """Dense layers with an activation between them; x [B, in] -> [B, sizes[-1]]."""

    sizes: tuple[int, ...]
    activation: str
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for i, size in enumerate(self.sizes):
            x = nn.Dense(size, dtype=self.dtype, param_dtype=self.dtype, name=f"{i}")(x)
            if i < len(self.sizes) - 1:
                x = ACTIVATIONS[self.activation](x)
        return x


class Policy(nn.Module):
    """Stochastic policy: obs [B, observation_size] -> Categorical or Gaussian."""

    spec: EnvSpec
    hidden_sizes: tuple[int, ...]
    activation: str
    dtype: str = "float32"

    @nn.compact
    def __call__(self, obs: Array) -> Categorical | Gaussian:
        sizes = (*self.hidden_sizes, self.spec.action_size)
        out = MLP(sizes, self.activation, self.dtype, name="mlp")(obs)
        if self.spec.discrete:
            return Categorical(out)
        shape = (self.spec.action_size,)
        log_std = self.param("log_std", nn.initializers.zeros, shape, self.dtype)
        return Gaussian(out, log_std)


class Value(nn.Module):
    """State value: obs [B, observation_size] -> [B]."""

    hidden_sizes: tuple[int, ...]
    activation: str
    dtype: str = "float32"

    @nn.compact
    def __call__(self, obs: Array) -> Array:
        return MLP((*self.hidden_sizes, 1), self.activation, self.dtype, name="mlp")(obs)[..., 0]


class ActionValues(nn.Module):
    """Q of every discrete action: obs [B, observation_size] -> [B, num_actions]."""

    spec: EnvSpec
    hidden_sizes: tuple[int, ...]
    activation: str
    dtype: str = "float32"

    @nn.compact
    def __call__(self, obs: Array) -> Array:
        sizes = (*self.hidden_sizes, self.spec.action_size)
        return MLP(sizes, self.activation, self.dtype, name="mlp")(obs)


class Critic(nn.Module):
    """Q of one action: obs [B, observation_size], action [B, action_size] -> [B].

    With `atoms`, the logits of as many possible returns instead: [B, atoms].
    """

    hidden_sizes: tuple[int, ...]
    activation: str
    dtype: str = "float32"
    atoms: int = 0

    @nn.compact
    def __call__(self, obs: Array, action: Array) -> Array:
        x = jax.numpy.concatenate([obs, action], axis=-1)
        sizes = (*self.hidden_sizes, self.atoms or 1)
        out = MLP(sizes, self.activation, self.dtype, name="mlp")(x)
        return out if self.atoms else out[..., 0]


class DeterministicPolicy(nn.Module):
    """One action per state: obs [B, observation_size] -> [B, action_size] in [-1, 1]."""

    spec: EnvSpec
    hidden_sizes: tuple[int, ...]
    activation: str
    dtype: str = "float32"

    @nn.compact
    def __call__(self, obs: Array) -> Array:
        sizes = (*self.hidden_sizes, self.spec.action_size)
        return jax.numpy.tanh(MLP(sizes, self.activation, self.dtype, name="mlp")(obs))


class SquashedPolicy(nn.Module):
    """Stochastic policy over (-1, 1)^A: obs [B, observation_size] -> SquashedGaussian."""

    spec: EnvSpec
    hidden_sizes: tuple[int, ...]
    activation: str
    log_std_range: tuple[float, float]
    dtype: str = "float32"

    @nn.compact
    def __call__(self, obs: Array) -> SquashedGaussian:
        sizes = (*self.hidden_sizes, 2 * self.spec.action_size)
        out = MLP(sizes, self.activation, self.dtype, name="mlp")(obs)
        mean, raw = jax.numpy.split(out, 2, axis=-1)
        low, high = self.log_std_range
        return SquashedGaussian(mean, low + 0.5 * (high - low) * (jax.numpy.tanh(raw) + 1.0))


class LayerNormMLP(nn.Module):
    """Dense, LayerNorm, tanh, then dense layers with ELU between; x [B, in] -> [B, sizes[-1]]."""

    sizes: tuple[int, ...]
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kind = {"dtype": self.dtype, "param_dtype": self.dtype}
        for i, size in enumerate(self.sizes):
            x = nn.Dense(size, name=f"{i}", **kind)(x)
            if i == 0:
                # The fast variance, E x² − (E x)², loses half of the digits.
                x = nn.LayerNorm(NORM_EPSILON, use_fast_variance=False, name="norm", **kind)(x)
                x = jax.numpy.tanh(x)
            elif i < len(self.sizes) - 1:
                x = jax.nn.elu(x)
        return x


class LayerNormPolicy(nn.Module):
    """Gaussian policy with a std per state: obs [B, observation_size] -> Gaussian [B, A]."""

    spec: EnvSpec
    hidden_sizes: tuple[int, ...]
    init_std: float
    dtype: str = "float32"

    @nn.compact
    def __call__(self, obs: Array) -> Gaussian:
        sizes = (*self.hidden_sizes, 2 * self.spec.action_size)
        out = LayerNormMLP(sizes, self.dtype, name="mlp")(obs)
        mean, raw = jax.numpy.split(out, 2, axis=-1)
        std = jax.nn.softplus(raw) * (self.init_std / math.log(2.0)) + 1e-6
        return Gaussian(mean, jax.numpy.log(std))


class LayerNormCritic(nn.Module):
    """Q of one action: obs [B, observation_size], action [B, action_size] -> [B]."""

    hidden_sizes: tuple[int, ...]
    dtype: str = "float32"

    @nn.compact
    def __call__(self, obs: Array, action: Array) -> Array:
        x = jax.numpy.concatenate([obs, action], axis=-1)
        return LayerNormMLP((*self.hidden_sizes, 1), self.dtype, name="mlp")(x)[..., 0]
