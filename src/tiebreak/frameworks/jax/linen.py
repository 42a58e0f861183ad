"""Networks and agents in Flax Linen."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from tiebreak.core.networks import EXPANSION, GATES, Conv, Layers, convolutions
from tiebreak.core.off_policy import Batch
from tiebreak.core.types import Agent, Array, EnvSpec
from tiebreak.frameworks.jax import ops, trees
from tiebreak.frameworks.jax.ops import (
    Categorical,
    Gaussian,
    MultiCategorical,
    SquashedGaussian,
    categorical,
)

ACTIVATIONS: dict[str, Callable] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "elu": jax.nn.elu,
    "silu": jax.nn.silu,
}
NORM_EPSILON = 1e-5
"""Layer normalization's ε, added to the biased variance; libraries default to 1e-6, 1e-5, 1e-3."""


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


class LayerNormMLP(nn.Module):
    """Dense, LayerNorm, tanh, then dense layers with ELU between; x [B, in] -> [B, sizes[-1]]."""

    sizes: tuple[int, ...]
    activation: str
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kind = {"dtype": self.dtype, "param_dtype": self.dtype}
        for i, size in enumerate(self.sizes):
            x = nn.Dense(size, name=f"{i}", **kind)(x)
            if i == 0:
                # The fast variance, E x² − (E x)², loses half of the digits.
                x = nn.LayerNorm(NORM_EPSILON, use_fast_variance=False, name="norm", **kind)(x)
                x = jnp.tanh(x)
            elif i < len(self.sizes) - 1:
                x = ACTIVATIONS[self.activation](x)
        return x


class NormMLP(nn.Module):
    """Dense layers with LayerNorm and an activation between them; x [B, in] -> [B, sizes[-1]]."""

    sizes: tuple[int, ...]
    activation: str
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        *widths, outputs = self.sizes
        for i, width in enumerate(widths):
            x = _NormDense(width, self.dtype, name=f"{i}")(x)
            x = ACTIVATIONS[self.activation](x)
        kind = {"dtype": self.dtype, "param_dtype": self.dtype}
        return nn.Dense(outputs, name=f"{len(widths)}", **kind)(x)


class ResidualBlock(nn.Module):
    """x plus what LayerNorm, a wide dense layer, an activation and a dense layer make of it."""

    width: int
    activation: str
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kind = {"dtype": self.dtype, "param_dtype": self.dtype}
        hidden = nn.LayerNorm(NORM_EPSILON, use_fast_variance=False, name="norm", **kind)(x)
        hidden = nn.Dense(EXPANSION * self.width, name="0", **kind)(hidden)
        return x + nn.Dense(self.width, name="1", **kind)(ACTIVATIONS[self.activation](hidden))


class SimBa(nn.Module):
    """A dense layer, residual blocks, LayerNorm and a dense layer (Lee et al. 2024)."""

    sizes: tuple[int, ...]
    activation: str
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kind = {"dtype": self.dtype, "param_dtype": self.dtype}
        *widths, outputs = self.sizes
        x = nn.Dense(widths[0], name="0", **kind)(x)
        x = _ResidualBlocks(tuple(widths), self.activation, self.dtype, name="block")(x)
        x = nn.LayerNorm(NORM_EPSILON, use_fast_variance=False, name="norm", **kind)(x)
        return nn.Dense(outputs, name="1", **kind)(x)


class CNN(nn.Module):
    """Convolutions over the image that x begins with, then dense layers over that and the rest.

    x [..., in] -> [..., sizes[-1]]; `shape` is the image's, [height, width, channels].
    """

    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    activation: str
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        size = math.prod(self.shape)
        image = x[..., :size].reshape(-1, *self.shape)
        image = _Convolutions(self.shape, self.activation, self.dtype, name="conv")(image)
        seen = flatten_image(image).reshape(*x.shape[:-1], -1)
        x = jnp.concatenate([seen, x[..., size:]], axis=-1)
        return MLP(self.sizes, self.activation, self.dtype, name="dense")(x)


class NormCNN(nn.Module):
    """A CNN with LayerNorm before each activation; of an image, over the channels of each pixel.

    x [..., in] -> [..., sizes[-1]]; `shape` is the image's, [height, width, channels].
    """

    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    activation: str
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        size = math.prod(self.shape)
        image = x[..., :size].reshape(-1, *self.shape)
        image = _NormConvolutions(self.shape, self.activation, self.dtype, name="conv")(image)
        seen = flatten_image(image).reshape(*x.shape[:-1], -1)
        x = jnp.concatenate([seen, x[..., size:]], axis=-1)
        return NormMLP(self.sizes, self.activation, self.dtype, name="dense")(x)


def flatten_image(image: Array) -> Array:
    """Flatten images [B, H, W, C] to [B, H·W·C], channels fastest."""
    return image.reshape(len(image), -1)


TORSOS: dict[str, Callable] = {
    "mlp": MLP,
    "layer_norm_mlp": LayerNormMLP,
    "norm_mlp": NormMLP,
    "simba": SimBa,
}
"""Layers between a network's inputs and outputs, by name."""
IMAGE_TORSOS: dict[str, Callable] = {"cnn": CNN, "norm_cnn": NormCNN}
"""Those that need the image's shape, too."""


def make_torso(
    layers: Layers, shape: tuple[int, ...], sizes: tuple[int, ...], dtype: str
) -> nn.Module:
    """Return the layers of a network: x [B, in] -> [B, sizes[-1]].

    `shape` is that of observations, with which x begins.
    """
    if layers.kind in IMAGE_TORSOS:
        return IMAGE_TORSOS[layers.kind](shape, sizes, layers.activation, dtype, name="torso")
    return TORSOS[layers.kind](sizes, layers.activation, dtype, name="torso")


class Policy(nn.Module):
    """Stochastic policy: obs [B, observation_size] -> distribution over actions."""

    spec: EnvSpec
    layers: Layers
    dtype: str = "float32"

    @nn.compact
    def __call__(self, obs: Array) -> Categorical | MultiCategorical | Gaussian:
        sizes = (*self.layers.sizes, self.spec.action_size)
        out = make_torso(self.layers, self.spec.observation_shape, sizes, self.dtype)(obs)
        if self.spec.discrete:
            return categorical(out, self.spec.nvec)
        shape = (self.spec.action_size,)
        log_std = self.param("log_std", nn.initializers.zeros, shape, self.dtype)
        return Gaussian(out, log_std)


class Value(nn.Module):
    """State value: obs [B, observation_size] -> [B]."""

    spec: EnvSpec
    layers: Layers
    dtype: str = "float32"

    @nn.compact
    def __call__(self, obs: Array) -> Array:
        sizes = (*self.layers.sizes, 1)
        torso = make_torso(self.layers, self.spec.observation_shape, sizes, self.dtype)
        return torso(obs)[..., 0]


class ActionValues(nn.Module):
    """Q of every discrete action: obs [B, observation_size] -> [B, num_actions].

    With more than one of `atoms`, the logits of as many possible returns instead:
    [B, num_actions, atoms].
    """

    spec: EnvSpec
    layers: Layers
    dtype: str = "float32"
    atoms: int = 1

    @nn.compact
    def __call__(self, obs: Array) -> Array:
        sizes = (*self.layers.sizes, self.spec.action_size * self.atoms)
        out = make_torso(self.layers, self.spec.observation_shape, sizes, self.dtype)(obs)
        return out if self.atoms == 1 else out.reshape(*out.shape[:-1], -1, self.atoms)


class Critic(nn.Module):
    """Q of one action: obs [B, observation_size], action [B, action_size] -> [B].

    With `atoms`, the logits of as many possible returns instead: [B, atoms].
    """

    spec: EnvSpec
    layers: Layers
    dtype: str = "float32"
    atoms: int = 0

    @nn.compact
    def __call__(self, obs: Array, action: Array) -> Array:
        x = jnp.concatenate([obs, action], axis=-1)
        sizes = (*self.layers.sizes, self.atoms or 1)
        out = make_torso(self.layers, self.spec.observation_shape, sizes, self.dtype)(x)
        return out if self.atoms else out[..., 0]


class DeterministicPolicy(nn.Module):
    """One action per state: obs [B, observation_size] -> [B, action_size] in [-1, 1]."""

    spec: EnvSpec
    layers: Layers
    dtype: str = "float32"

    @nn.compact
    def __call__(self, obs: Array) -> Array:
        sizes = (*self.layers.sizes, self.spec.action_size)
        return jnp.tanh(
            make_torso(self.layers, self.spec.observation_shape, sizes, self.dtype)(obs)
        )


class SquashedPolicy(nn.Module):
    """Stochastic policy over (-1, 1)^A: obs [B, observation_size] -> SquashedGaussian."""

    spec: EnvSpec
    layers: Layers
    log_std_range: tuple[float, float]
    dtype: str = "float32"

    @nn.compact
    def __call__(self, obs: Array) -> SquashedGaussian:
        sizes = (*self.layers.sizes, 2 * self.spec.action_size)
        out = make_torso(self.layers, self.spec.observation_shape, sizes, self.dtype)(obs)
        mean, raw = jnp.split(ops.at_least_float32(out), 2, axis=-1)
        low, high = self.log_std_range
        return SquashedGaussian(mean, low + 0.5 * (high - low) * (jnp.tanh(raw) + 1.0))


class ScaledPolicy(nn.Module):
    """Gaussian policy with a std per state: obs [B, observation_size] -> Gaussian [B, A]."""

    spec: EnvSpec
    layers: Layers
    init_std: float
    dtype: str = "float32"

    @nn.compact
    def __call__(self, obs: Array) -> Gaussian:
        sizes = (*self.layers.sizes, 2 * self.spec.action_size)
        out = make_torso(self.layers, self.spec.observation_shape, sizes, self.dtype)(obs)
        mean, raw = jnp.split(out, 2, axis=-1)
        std = jax.nn.softplus(raw) * (self.init_std / math.log(2.0)) + 1e-6
        return Gaussian(mean, jnp.log(std))


class GRU(nn.Module):
    """Dense layers, then a gated recurrent unit: x [T, B, observation_size] -> [T, B, H].

    `hidden` [B, H] is the state before the first step; where `begins` [T, B] is true, the state
    before a step counts as zero.
    """

    spec: EnvSpec
    layers: Layers
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, hidden: Array, begins: Array) -> Array:
        kind = {"dtype": self.dtype, "param_dtype": self.dtype}
        *dense, width = self.layers.sizes
        for i, size in enumerate(dense):
            x = ACTIVATIONS[self.layers.activation](nn.Dense(size, name=f"{i}", **kind)(x))
        gates = nn.Dense(GATES * width, name=f"{len(dense)}", **kind)(x)
        of_state = _Weights((width, GATES * width), self.dtype, name=f"{len(dense) + 1}")
        return ops.gru(gates, *of_state(), hidden, begins)


class AgentDef(NamedTuple):
    """Everything about an agent that training does not change."""

    spec: EnvSpec
    config: Any
    dtype: str
    """Floating-point type of weights and arithmetic."""
    networks: dict[str, Any]
    """Modules by canonical name; arrays, or dictionaries of arrays, for bare parameters."""
    optimizers: dict[str, optax.GradientTransformation]
    data: ModuleType
    """The algorithm's data.py: NETWORKS, COUNTS, TARGETS and STATISTICS."""
    network_dtype: str = ""
    """Floating-point type that networks compute in, if it is not `dtype`."""


class AgentState(NamedTuple):
    """Everything that training changes; dictionaries by optimizer, statistics by name."""

    params: dict[str, Any]
    """{optimizer: {network: variables}}"""
    target: dict[str, Any]
    """Slowly following copies of `params`, of those optimizers whose networks have targets."""
    opt_state: dict[str, Any]
    statistics: dict[str, Any]


def network(agent: AgentDef, params: Mapping[str, Any], name: str) -> Callable:
    """Return a network as a function of its inputs; `params` are its optimizer's."""
    apply = partial(agent.networks[name].apply, params[name])
    if agent.network_dtype in ("", agent.dtype):
        return apply
    return lambda *inputs: trees.cast(apply(*inputs), agent.dtype)


def features(agent: AgentDef, state: AgentState, obs: Array) -> Array:
    """Return observations […, observation_size], normalized if configured, in `agent.dtype`.

    Pixels that are not normalized are scaled to [0, 1].
    """
    obs = jnp.asarray(obs, agent.dtype)
    if not agent.config.normalize_obs:
        return obs / 255.0 if agent.spec.pixels else obs
    return ops.normalize(obs, state.statistics["obs_moments"])


def prepare(agent: AgentDef, state: AgentState, batch: Batch) -> Batch:
    """Return an off-policy batch in `agent.dtype`, with features for observations."""
    batch = trees.cast(batch, agent.dtype)
    obs = features(agent, state, batch.obs)
    next_obs = features(agent, state, batch.next_obs)
    return batch._replace(obs=obs, next_obs=next_obs)


def apply_gradients(
    agent: AgentDef, state: AgentState, name: str, grads: Mapping[str, Any]
) -> tuple[AgentState, Array]:
    """Update the parameters of one optimizer; return the gradient's norm before clipping.

    Args:
        grads: gradients by optimizer, of which `name`'s are used.
    """
    params = state.params[name]
    updates, opt_state = agent.optimizers[name].update(grads[name], state.opt_state[name], params)
    state = state._replace(
        params={**state.params, name: optax.apply_updates(params, updates)},
        opt_state={**state.opt_state, name: opt_state},
    )
    return state, ops.global_norm(grads[name])


def update_count(agent: AgentDef, state: AgentState, name: str) -> Array:
    """Return how many updates an optimizer has made; int32."""
    del agent
    return state.opt_state[name][1].count


def update_targets(
    agent: AgentDef,
    state: AgentState,
    name: str,
    tau: float,
    average: Callable = trees.interpolate,
) -> AgentState:
    """Move the targets of one optimizer's networks a share `tau` of the way to them."""
    del agent
    target = average(state.params[name], state.target[name], tau)
    return state._replace(target={**state.target, name: target})


def copy_targets(agent: AgentDef, state: AgentState, name: str, period: int) -> AgentState:
    """Copy one optimizer's networks into their targets after every `period` of its updates."""
    due = update_count(agent, state, name) % period == 0
    target = ops.periodic_update(due, state.params[name], state.target[name])
    return state._replace(target={**state.target, name: target})


def update_statistics(agent: AgentDef, state: AgentState, obs: Array) -> AgentState:
    """Take raw observations [..., observation_size] into `obs_moments`, if these are used."""
    if not agent.config.normalize_obs:
        return state
    rows = jnp.asarray(obs, agent.dtype).reshape(-1, agent.spec.observation_size)
    moments = ops.merge_stats(state.statistics["obs_moments"], rows)
    return state._replace(statistics={**state.statistics, "obs_moments": moments})


def named(agent: AgentDef, tree: Mapping[str, Any]) -> dict[str, Array]:
    """Return trees by optimizer, shaped like parameters, as arrays under canonical names."""
    del agent
    return trees.named_by_optimizer(tree)


def dump(agent: AgentDef, state: AgentState) -> dict[str, np.ndarray]:
    """Return everything in the state as NumPy arrays under canonical names."""
    adams = {name: opt_state[1] for name, opt_state in state.opt_state.items()}
    return trees.dump_arrays(agent.data.COUNTS, state.params, state.target, adams, state.statistics)


def load(agent: AgentDef, weights: Mapping[str, np.ndarray]) -> AgentState:
    """Return the state that `dump` has written, in any framework."""
    shapes = _parameter_shapes(agent)
    params, opt_state = {}, {}
    for name, count in agent.data.COUNTS.items():
        params[name] = trees.fill_tree(shapes[name], weights, "", agent.dtype)
        opt_state[name] = trees.load_opt_state(
            agent.optimizers[name], params[name], weights, count, agent.dtype
        )
    target = {
        name: trees.fill_tree(shapes[name], weights, "target/", agent.dtype)
        for name in agent.data.TARGETS
    }
    statistics = trees.load_statistics(weights, agent.data.STATISTICS, agent.dtype)
    return AgentState(params, target, opt_state, statistics)


def make_agent(agent: AgentDef, initial_weights: Callable, act: Callable, step: Callable) -> Agent:
    """Return the five functions of the contract.

    Args:
        initial_weights: (spec, config, seed) -> canonical weights of a new agent.
        act, step: the algorithm's, with `agent` as first argument.
    """

    def init(seed: int) -> AgentState:
        return load(agent, initial_weights(agent.spec, agent.config, seed))

    return Agent(
        init=init,
        act=partial(act, agent),
        step=partial(step, agent),
        dump=partial(dump, agent),
        load=partial(load, agent),
    )


def _parameter_shapes(agent: AgentDef) -> dict[str, dict[str, Any]]:
    """Return trees of the right shapes for all parameters: {optimizer: {network: variables}}."""
    return {
        optimizer: {name: _network_shapes(agent, name) for name in names if name in agent.networks}
        for optimizer, names in agent.data.NETWORKS.items()
    }


def _network_shapes(agent: AgentDef, name: str) -> Any:
    module = agent.networks[name]
    if not isinstance(module, nn.Module):
        return module
    # What an actor sees may be less than what critics see: each module has its own `spec`.
    obs = jnp.zeros((1, module.spec.observation_size), agent.dtype)
    action = jnp.zeros((1, module.spec.action_size), agent.dtype)
    inputs = (obs, action) if isinstance(module, Critic) else (obs,)
    if isinstance(module, GRU):
        hidden = jnp.zeros((1, module.layers.sizes[-1]), agent.dtype)
        inputs = (obs[None], hidden, jnp.zeros((1, 1), bool))
    return jax.eval_shape(module.init, jax.random.key(0), *inputs)


class _ResidualBlocks(nn.Module):
    """Residual blocks one after the other; x [B, width] -> [B, width]."""

    widths: tuple[int, ...]
    activation: str
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for i, width in enumerate(self.widths):
            x = ResidualBlock(width, self.activation, self.dtype, name=f"{i}")(x)
        return x


class _Weights(nn.Module):
    """Kernel [in, out] and bias [out] of a dense layer, for a scan: it may call no module."""

    shape: tuple[int, int]
    dtype: str = "float32"

    @nn.compact
    def __call__(self) -> tuple[Array, Array]:
        kernel = self.param("kernel", nn.initializers.zeros, self.shape, self.dtype)
        return kernel, self.param("bias", nn.initializers.zeros, self.shape[1:], self.dtype)


class _Convolutions(nn.Module):
    """Convolutions with an activation after each; image [B, *shape] -> [B, H, W, C]."""

    shape: tuple[int, ...]
    activation: str
    dtype: str = "float32"

    @nn.compact
    def __call__(self, image: Array) -> Array:
        kind = {"dtype": self.dtype, "param_dtype": self.dtype}
        kind |= {"padding": "VALID", "conv_general_dilated": ops.convolve}
        for i, conv in enumerate(convolutions(self.shape)):
            window, strides = (conv.window, conv.window), (conv.stride, conv.stride)
            image = nn.Conv(conv.channels, window, strides, name=f"{i}", **kind)(image)
            image = ACTIVATIONS[self.activation](image)
        return image


class _NormDense(nn.Module):
    """A dense layer and LayerNorm; x [B, in] -> [B, width]."""

    width: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kind = {"dtype": self.dtype, "param_dtype": self.dtype}
        x = nn.Dense(self.width, name="layer", **kind)(x)
        return nn.LayerNorm(NORM_EPSILON, use_fast_variance=False, name="norm", **kind)(x)


class _NormConv(nn.Module):
    """A convolution and LayerNorm over its channels; image [B, H, W, C] -> [B, H, W, channels]."""

    conv: Conv
    dtype: str = "float32"

    @nn.compact
    def __call__(self, image: Array) -> Array:
        conv, kind = self.conv, {"dtype": self.dtype, "param_dtype": self.dtype}
        settings = {"padding": "VALID", "conv_general_dilated": ops.convolve, **kind}
        window, strides = (conv.window, conv.window), (conv.stride, conv.stride)
        image = nn.Conv(conv.channels, window, strides, name="layer", **settings)(image)
        return nn.LayerNorm(NORM_EPSILON, use_fast_variance=False, name="norm", **kind)(image)


class _NormConvolutions(nn.Module):
    """Convolutions, each with LayerNorm and an activation; image [B, *shape] -> [B, H, W, C]."""

    shape: tuple[int, ...]
    activation: str
    dtype: str = "float32"

    @nn.compact
    def __call__(self, image: Array) -> Array:
        for i, conv in enumerate(convolutions(self.shape)):
            image = _NormConv(conv, self.dtype, name=f"{i}")(image)
            image = ACTIVATIONS[self.activation](image)
        return image
