"""Networks in Flax Linen."""

from __future__ import annotations

from collections.abc import Callable

import jax
from flax import linen as nn

from tiebreak.core.types import Array, EnvSpec
from tiebreak.ops.jax_ops import Categorical, Gaussian

ACTIVATIONS: dict[str, Callable] = {"tanh": jax.numpy.tanh, "relu": jax.nn.relu}


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
