"""Networks in Equinox, with layers of their own and fields in the order of Linen's names (0011)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import equinox as eqx
import jax

from tiebreak.core.types import Array, EnvSpec
from tiebreak.frameworks.jax.ops import Categorical, Gaussian, SquashedGaussian

ACTIVATIONS: dict[str, Callable] = {"tanh": jax.numpy.tanh, "relu": jax.nn.relu}
NORM_EPSILON = 1e-5
"""Layer normalization's ε, added to the biased variance; libraries' own are 1e-6, 1e-5, 1e-3."""


class MLP(eqx.Module):
    """Dense layers with an activation between them; x [B, sizes[0]] -> [B, sizes[-1]]."""

    layers: list[_Linear]
    activation: str = eqx.field(static=True)

    def __init__(self, sizes: tuple[int, ...], activation: str, dtype: str):
        self.layers = [_Linear(a, b, dtype) for a, b in itertools.pairwise(sizes)]
        self.activation = activation

    def __call__(self, x: Array) -> Array:
        for layer in self.layers[:-1]:
            x = ACTIVATIONS[self.activation](layer(x))
        return self.layers[-1](x)


class Policy(eqx.Module):
    """Stochastic policy: obs [B, observation_size] -> Categorical or Gaussian."""

    log_std: Array | None
    mlp: MLP

    def __init__(self, spec: EnvSpec, hidden_sizes: tuple[int, ...], activation: str, dtype: str):
        sizes = (spec.observation_size, *hidden_sizes, spec.action_size)
        self.mlp = MLP(sizes, activation, dtype)
        self.log_std = None if spec.discrete else jax.numpy.zeros(spec.action_size, dtype)

    def __call__(self, obs: Array) -> Categorical | Gaussian:
        out = self.mlp(obs)
        return Categorical(out) if self.log_std is None else Gaussian(out, self.log_std)


class Value(eqx.Module):
    """State value: obs [B, observation_size] -> [B]."""

    mlp: MLP

    def __init__(self, spec: EnvSpec, hidden_sizes: tuple[int, ...], activation: str, dtype: str):
        self.mlp = MLP((spec.observation_size, *hidden_sizes, 1), activation, dtype)

    def __call__(self, obs: Array) -> Array:
        return self.mlp(obs)[..., 0]


class ActionValues(eqx.Module):
    """Q of every discrete action: obs [B, observation_size] -> [B, num_actions]."""

    mlp: MLP

    def __init__(self, spec: EnvSpec, hidden_sizes: tuple[int, ...], activation: str, dtype: str):
        sizes = (spec.observation_size, *hidden_sizes, spec.action_size)
        self.mlp = MLP(sizes, activation, dtype)

    def __call__(self, obs: Array) -> Array:
        return self.mlp(obs)


class Critic(eqx.Module):
    """Q of one action: obs [B, observation_size], action [B, action_size] -> [B].

    With `atoms`, the logits of as many possible returns instead: [B, atoms].
    """

    mlp: MLP
    atoms: int = eqx.field(static=True)

    def __init__(
        self,
        spec: EnvSpec,
        hidden_sizes: tuple[int, ...],
        activation: str,
        dtype: str,
        atoms: int = 0,
    ):
        sizes = (spec.observation_size + spec.action_size, *hidden_sizes, atoms or 1)
        self.mlp = MLP(sizes, activation, dtype)
        self.atoms = atoms

    def __call__(self, obs: Array, action: Array) -> Array:
        out = self.mlp(jax.numpy.concatenate([obs, action], axis=-1))
        return out if self.atoms else out[..., 0]


class DeterministicPolicy(eqx.Module):
    """One action per state: obs [B, observation_size] -> [B, action_size] in [-1, 1]."""

    mlp: MLP

    def __init__(self, spec: EnvSpec, hidden_sizes: tuple[int, ...], activation: str, dtype: str):
        sizes = (spec.observation_size, *hidden_sizes, spec.action_size)
        self.mlp = MLP(sizes, activation, dtype)

    def __call__(self, obs: Array) -> Array:
        return jax.numpy.tanh(self.mlp(obs))


class SquashedPolicy(eqx.Module):
    """Stochastic policy over (-1, 1)^A: obs [B, observation_size] -> SquashedGaussian."""

    mlp: MLP
    log_std_range: tuple[float, float] = eqx.field(static=True)

    def __init__(
        self,
        spec: EnvSpec,
        hidden_sizes: tuple[int, ...],
        activation: str,
        log_std_range: tuple[float, float],
        dtype: str,
    ):
        sizes = (spec.observation_size, *hidden_sizes, 2 * spec.action_size)
        self.mlp = MLP(sizes, activation, dtype)
        self.log_std_range = log_std_range

    def __call__(self, obs: Array) -> SquashedGaussian:
        mean, raw = jax.numpy.split(self.mlp(obs), 2, axis=-1)
        low, high = self.log_std_range
        return SquashedGaussian(mean, low + 0.5 * (high - low) * (jax.numpy.tanh(raw) + 1.0))


class LayerNormMLP(eqx.Module):
    """Dense, LayerNorm, tanh, then dense layers with ELU between; x [B, in] -> [B, sizes[-1]]."""

    layers: list[_Linear]
    norm: _LayerNorm

    def __init__(self, sizes: tuple[int, ...], dtype: str):
        self.layers = [_Linear(a, b, dtype) for a, b in itertools.pairwise(sizes)]
        self.norm = _LayerNorm(sizes[1], dtype)

    def __call__(self, x: Array) -> Array:
        x = jax.numpy.tanh(self.norm(self.layers[0](x)))
        for layer in self.layers[1:-1]:
            x = jax.nn.elu(layer(x))
        return self.layers[-1](x)


class LayerNormPolicy(eqx.Module):
    """Gaussian policy with a std per state: obs [B, observation_size] -> Gaussian [B, A]."""

    mlp: LayerNormMLP
    init_std: float = eqx.field(static=True)

    def __init__(self, spec: EnvSpec, hidden_sizes: tuple[int, ...], init_std: float, dtype: str):
        sizes = (spec.observation_size, *hidden_sizes, 2 * spec.action_size)
        self.mlp = LayerNormMLP(sizes, dtype)
        self.init_std = init_std

    def __call__(self, obs: Array) -> Gaussian:
        mean, raw = jax.numpy.split(self.mlp(obs), 2, axis=-1)
        std = jax.nn.softplus(raw) * (self.init_std / math.log(2.0)) + 1e-6
        return Gaussian(mean, jax.numpy.log(std))


class LayerNormCritic(eqx.Module):
    """Q of one action: obs [B, observation_size], action [B, action_size] -> [B]."""

    mlp: LayerNormMLP

    def __init__(self, spec: EnvSpec, hidden_sizes: tuple[int, ...], dtype: str):
        sizes = (spec.observation_size + spec.action_size, *hidden_sizes, 1)
        self.mlp = LayerNormMLP(sizes, dtype)

    def __call__(self, obs: Array, action: Array) -> Array:
        return self.mlp(jax.numpy.concatenate([obs, action], axis=-1))[..., 0]


class _Linear(eqx.Module):
    """A dense layer over batches; x [B, in] -> [B, out].

    `eqx.nn.Linear` keeps [out, in] and takes one example, so that under vmap every product needs
    its weights transposed: on a CPU the fused training program runs 5 to 10 % slower with it.
    """

    bias: Array
    kernel: Array

    def __init__(self, fan_in: int, fan_out: int, dtype: str):
        self.kernel = jax.numpy.zeros((fan_in, fan_out), dtype)
        self.bias = jax.numpy.zeros(fan_out, dtype)

    def __call__(self, x: Array) -> Array:
        return x @ self.kernel + self.bias


class _LayerNorm(eqx.Module):
    """Layer normalization over batches, x [B, size]; `eqx.nn.LayerNorm` takes one example."""

    bias: Array
    scale: Array

    def __init__(self, size: int, dtype: str):
        self.scale, self.bias = jax.numpy.ones(size, dtype), jax.numpy.zeros(size, dtype)

    def __call__(self, x: Array) -> Array:
        x = x - x.mean(axis=-1, keepdims=True)
        var = jax.numpy.square(x).mean(axis=-1, keepdims=True)
        return x * (jax.lax.rsqrt(var + NORM_EPSILON) * self.scale) + self.bias
