"""Networks and agents in plain JAX: parameters are dictionaries of arrays, layers are functions.

No neural-network library; optimizers are optax's, as its siblings' are. A network is a tuple of
settings with two functions: `init` returns its parameters, zeros that `load` replaces, and `apply`
computes its outputs, in the type of the parameters. Parameters have the names that Linen gives
them, so that the leaves of a state have Linen's order, too (docs/decisions/0011).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tiebreak.core.networks import EXPANSION, Layers, convolutions, dense_sizes, gru_sizes
from tiebreak.core.off_policy import Batch
from tiebreak.core.types import Agent, Array, EnvSpec, Tree
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


class MLP(NamedTuple):
    """Dense layers with an activation between them; x [B, sizes[0]] -> [B, sizes[-1]]."""

    sizes: tuple[int, ...]
    activation: str

    def init(self) -> Tree:
        return _init_dense(self.sizes)

    def apply(self, params: Tree, x: Array) -> Array:
        last = len(self.sizes) - 2
        for i in range(last):
            x = ACTIVATIONS[self.activation](_dense(params[f"{i}"], x))
        return _dense(params[f"{last}"], x)


class LayerNormMLP(NamedTuple):
    """Dense, LayerNorm, tanh, then dense layers with ELU between; x [B, in] -> [B, sizes[-1]]."""

    sizes: tuple[int, ...]
    activation: str

    def init(self) -> Tree:
        return {**_init_dense(self.sizes), "norm": _init_norm(self.sizes[1])}

    def apply(self, params: Tree, x: Array) -> Array:
        last = len(self.sizes) - 2
        x = jnp.tanh(_layer_norm(params["norm"], _dense(params["0"], x)))
        for i in range(1, last):
            x = ACTIVATIONS[self.activation](_dense(params[f"{i}"], x))
        return _dense(params[f"{last}"], x)


class NormMLP(NamedTuple):
    """Dense layers with LayerNorm and an activation between them; x [B, in] -> [B, sizes[-1]]."""

    sizes: tuple[int, ...]
    activation: str

    def init(self) -> Tree:
        params = _init_dense(self.sizes)
        for i, width in enumerate(self.sizes[1:-1]):
            params[f"{i}"] = {"layer": params[f"{i}"], "norm": _init_norm(width)}
        return params

    def apply(self, params: Tree, x: Array) -> Array:
        last = len(self.sizes) - 2
        for i in range(last):
            x = _dense(params[f"{i}"]["layer"], x)
            x = _layer_norm(params[f"{i}"]["norm"], x)
            x = ACTIVATIONS[self.activation](x)
        return _dense(params[f"{last}"], x)


class ResidualBlock(NamedTuple):
    """x plus what LayerNorm, a wide dense layer, an activation and a dense layer make of it."""

    width: int
    activation: str

    def init(self) -> Tree:
        sizes = (self.width, EXPANSION * self.width, self.width)
        return {**_init_dense(sizes), "norm": _init_norm(self.width)}

    def apply(self, params: Tree, x: Array) -> Array:
        hidden = _dense(params["0"], _layer_norm(params["norm"], x))
        return x + _dense(params["1"], ACTIVATIONS[self.activation](hidden))


class SimBa(NamedTuple):
    """A dense layer, residual blocks, LayerNorm and a dense layer (Lee et al. 2024)."""

    sizes: tuple[int, ...]
    activation: str

    @property
    def blocks(self) -> list[ResidualBlock]:
        return [ResidualBlock(width, self.activation) for width in self.sizes[1:-1]]

    def init(self) -> Tree:
        inputs, width, *_, outputs = self.sizes
        return {
            "0": _init_layer(inputs, width),
            "block": {f"{i}": block.init() for i, block in enumerate(self.blocks)},
            "norm": _init_norm(width),
            "1": _init_layer(width, outputs),
        }

    def apply(self, params: Tree, x: Array) -> Array:
        x = _dense(params["0"], x)
        for i, block in enumerate(self.blocks):
            x = block.apply(params["block"][f"{i}"], x)
        return _dense(params["1"], _layer_norm(params["norm"], x))


class CNN(NamedTuple):
    """Convolutions over the image that x begins with, then dense layers over that and the rest.

    x [..., sizes[0]] -> [..., sizes[-1]]; `shape` is the image's, [height, width, channels].
    """

    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    activation: str

    @property
    def dense(self) -> MLP:
        return MLP(dense_sizes("cnn", self.shape, self.sizes), self.activation)

    def init(self) -> Tree:
        return {"conv": _init_convolutions(self.shape), "dense": self.dense.init()}

    def apply(self, params: Tree, x: Array) -> Array:
        size = math.prod(self.shape)
        image = x[..., :size].reshape(-1, *self.shape)
        for i, conv in enumerate(convolutions(self.shape)):
            image = _convolve(params["conv"][f"{i}"], image, conv.stride)
            image = ACTIVATIONS[self.activation](image)
        seen = flatten_image(image).reshape(*x.shape[:-1], -1)
        return self.dense.apply(params["dense"], jnp.concatenate([seen, x[..., size:]], axis=-1))


class NormCNN(NamedTuple):
    """A CNN with LayerNorm before each activation; of an image, over the channels of each pixel.

    x [..., sizes[0]] -> [..., sizes[-1]]; `shape` is the image's, [height, width, channels].
    """

    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    activation: str

    @property
    def dense(self) -> NormMLP:
        return NormMLP(dense_sizes("norm_cnn", self.shape, self.sizes), self.activation)

    def init(self) -> Tree:
        convs = _init_convolutions(self.shape)
        normed = {
            f"{i}": {"layer": convs[f"{i}"], "norm": _init_norm(conv.channels)}
            for i, conv in enumerate(convolutions(self.shape))
        }
        return {"conv": normed, "dense": self.dense.init()}

    def apply(self, params: Tree, x: Array) -> Array:
        size = math.prod(self.shape)
        image = x[..., :size].reshape(-1, *self.shape)
        for i, conv in enumerate(convolutions(self.shape)):
            image = _convolve(params["conv"][f"{i}"]["layer"], image, conv.stride)
            image = _layer_norm(params["conv"][f"{i}"]["norm"], image)
            image = ACTIVATIONS[self.activation](image)
        seen = flatten_image(image).reshape(*x.shape[:-1], -1)
        return self.dense.apply(params["dense"], jnp.concatenate([seen, x[..., size:]], axis=-1))


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


def make_torso(layers: Layers, shape: tuple[int, ...], sizes: tuple[int, ...]) -> Any:
    """Return the layers of a network: x [B, sizes[0]] -> [B, sizes[-1]].

    `shape` is that of observations, with which x begins.
    """
    if layers.kind in IMAGE_TORSOS:
        return IMAGE_TORSOS[layers.kind](shape, sizes, layers.activation)
    return TORSOS[layers.kind](sizes, layers.activation)


class Policy(NamedTuple):
    """Stochastic policy: obs [B, observation_size] -> distribution over actions."""

    spec: EnvSpec
    layers: Layers

    @property
    def torso(self) -> Any:
        sizes = (self.spec.observation_size, *self.layers.sizes, self.spec.action_size)
        return make_torso(self.layers, self.spec.observation_shape, sizes)

    def init(self) -> Tree:
        params = {"torso": self.torso.init()}
        if not self.spec.discrete:
            params["log_std"] = np.zeros(self.spec.action_size)
        return params

    def apply(self, params: Tree, obs: Array) -> Categorical | MultiCategorical | Gaussian:
        out = self.torso.apply(params["torso"], obs)
        if self.spec.discrete:
            return categorical(out, self.spec.nvec)
        return Gaussian(out, params["log_std"])


class Value(NamedTuple):
    """State value: obs [B, observation_size] -> [B]."""

    spec: EnvSpec
    layers: Layers

    @property
    def torso(self) -> Any:
        sizes = (self.spec.observation_size, *self.layers.sizes, 1)
        return make_torso(self.layers, self.spec.observation_shape, sizes)

    def init(self) -> Tree:
        return {"torso": self.torso.init()}

    def apply(self, params: Tree, obs: Array) -> Array:
        return self.torso.apply(params["torso"], obs)[..., 0]


class ActionValues(NamedTuple):
    """Q of every discrete action: obs [B, observation_size] -> [B, num_actions].

    With more than one of `atoms`, the logits of as many possible returns instead:
    [B, num_actions, atoms].
    """

    spec: EnvSpec
    layers: Layers
    atoms: int = 1

    @property
    def torso(self) -> Any:
        outputs = self.spec.action_size * self.atoms
        sizes = (self.spec.observation_size, *self.layers.sizes, outputs)
        return make_torso(self.layers, self.spec.observation_shape, sizes)

    def init(self) -> Tree:
        return {"torso": self.torso.init()}

    def apply(self, params: Tree, obs: Array) -> Array:
        out = self.torso.apply(params["torso"], obs)
        return out if self.atoms == 1 else out.reshape(*out.shape[:-1], -1, self.atoms)


class Critic(NamedTuple):
    """Q of one action: obs [B, observation_size], action [B, action_size] -> [B].

    With `atoms`, the logits of as many possible returns instead: [B, atoms].
    """

    spec: EnvSpec
    layers: Layers
    atoms: int = 0

    @property
    def torso(self) -> Any:
        inputs = self.spec.observation_size + self.spec.action_size
        sizes = (inputs, *self.layers.sizes, self.atoms or 1)
        return make_torso(self.layers, self.spec.observation_shape, sizes)

    def init(self) -> Tree:
        return {"torso": self.torso.init()}

    def apply(self, params: Tree, obs: Array, action: Array) -> Array:
        x = jnp.concatenate([obs, action], axis=-1)
        out = self.torso.apply(params["torso"], x)
        return out if self.atoms else out[..., 0]


class DeterministicPolicy(NamedTuple):
    """One action per state: obs [B, observation_size] -> [B, action_size] in [-1, 1]."""

    spec: EnvSpec
    layers: Layers

    @property
    def torso(self) -> Any:
        sizes = (self.spec.observation_size, *self.layers.sizes, self.spec.action_size)
        return make_torso(self.layers, self.spec.observation_shape, sizes)

    def init(self) -> Tree:
        return {"torso": self.torso.init()}

    def apply(self, params: Tree, obs: Array) -> Array:
        return jnp.tanh(self.torso.apply(params["torso"], obs))


class SquashedPolicy(NamedTuple):
    """Stochastic policy over (-1, 1)^A: obs [B, observation_size] -> SquashedGaussian."""

    spec: EnvSpec
    layers: Layers
    log_std_range: tuple[float, float]

    @property
    def torso(self) -> Any:
        sizes = (self.spec.observation_size, *self.layers.sizes, 2 * self.spec.action_size)
        return make_torso(self.layers, self.spec.observation_shape, sizes)

    def init(self) -> Tree:
        return {"torso": self.torso.init()}

    def apply(self, params: Tree, obs: Array) -> SquashedGaussian:
        out = ops.at_least_float32(self.torso.apply(params["torso"], obs))
        mean, raw = jnp.split(out, 2, axis=-1)
        low, high = self.log_std_range
        return SquashedGaussian(mean, low + 0.5 * (high - low) * (jnp.tanh(raw) + 1.0))


class ScaledPolicy(NamedTuple):
    """Gaussian policy with a std per state: obs [B, observation_size] -> Gaussian [B, A]."""

    spec: EnvSpec
    layers: Layers
    init_std: float

    @property
    def torso(self) -> Any:
        sizes = (self.spec.observation_size, *self.layers.sizes, 2 * self.spec.action_size)
        return make_torso(self.layers, self.spec.observation_shape, sizes)

    def init(self) -> Tree:
        return {"torso": self.torso.init()}

    def apply(self, params: Tree, obs: Array) -> Gaussian:
        mean, raw = jnp.split(self.torso.apply(params["torso"], obs), 2, axis=-1)
        std = jax.nn.softplus(raw) * (self.init_std / math.log(2.0)) + 1e-6
        return Gaussian(mean, jnp.log(std))


class GRU(NamedTuple):
    """Dense layers, then a gated recurrent unit: x [T, B, observation_size] -> [T, B, H].

    `hidden` [B, H] is the state before the first step; where `begins` [T, B] is true, the state
    before a step counts as zero.
    """

    spec: EnvSpec
    layers: Layers

    def init(self) -> Tree:
        sizes = gru_sizes(self.spec.observation_size, self.layers.sizes)
        return {f"{i}": _init_layer(*size) for i, size in enumerate(sizes)}

    def apply(self, params: Tree, x: Array, hidden: Array, begins: Array) -> Array:
        *dense, of_inputs, of_state = (params[f"{i}"] for i in range(len(params)))
        for layer in dense:
            x = ACTIVATIONS[self.layers.activation](_dense(layer, x))
        gates = _dense(of_inputs, x)
        return ops.gru(gates, of_state["kernel"], of_state["bias"], hidden, begins)


class AgentDef(NamedTuple):
    """Everything about an agent that training does not change."""

    spec: EnvSpec
    config: Any
    dtype: str
    """Floating-point type of weights and arithmetic."""
    networks: dict[str, Any]
    """Networks by canonical name; arrays, or dictionaries of arrays, for bare parameters."""
    optimizers: dict[str, optax.GradientTransformation]
    data: ModuleType
    """The algorithm's data.py: NETWORKS, COUNTS, TARGETS and STATISTICS."""
    network_dtype: str = ""
    """Floating-point type that networks compute in, if it is not `dtype`."""


class AgentState(NamedTuple):
    """Everything that training changes; dictionaries by optimizer, statistics by name."""

    params: dict[str, Any]
    """{optimizer: {network: its parameters}}"""
    target: dict[str, Any]
    """Slowly following copies of `params`, of those optimizers whose networks have targets."""
    opt_state: dict[str, Any]
    statistics: dict[str, Any]


def network(agent: AgentDef, params: Mapping[str, Any], name: str) -> Callable:
    """Return a network as a function of its inputs; `params` are its optimizer's."""
    apply = agent.networks[name].apply
    if agent.network_dtype in ("", agent.dtype):
        return partial(apply, params[name])
    cast = partial(jax.tree.map, lambda x: x.astype(agent.network_dtype))
    return lambda *inputs: trees.cast(apply(cast(params[name]), *cast(inputs)), agent.dtype)


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
    """Return trees of the right shapes for all parameters: {optimizer: {network: parameters}}."""
    return {
        optimizer: {name: _network_shapes(agent, name) for name in names if name in agent.networks}
        for optimizer, names in agent.data.NETWORKS.items()
    }


def _network_shapes(agent: AgentDef, name: str) -> Tree:
    net = agent.networks[name]
    return net.init() if hasattr(net, "init") else net


def _init_dense(sizes: tuple[int, ...]) -> Tree:
    """Return the parameters of dense layers of these widths, the inputs' first, by number."""
    return {f"{i}": _init_layer(*pair) for i, pair in enumerate(itertools.pairwise(sizes))}


def _init_layer(*shape: int) -> Tree:
    """Return the parameters of a layer; the last number of its kernel's shape is its outputs."""
    return {"bias": np.zeros(shape[-1]), "kernel": np.zeros(shape)}


def _dense(params: Tree, x: Array) -> Array:
    """Apply a dense layer; x [B, in] -> [B, out]."""
    return x @ params["kernel"] + params["bias"]


def _init_convolutions(shape: tuple[int, ...]) -> Tree:
    """Return the parameters of the convolutions for images of `shape`, by number."""
    params, channels = {}, shape[-1]
    for i, conv in enumerate(convolutions(shape)):
        params[f"{i}"] = _init_layer(conv.window, conv.window, channels, conv.channels)
        channels = conv.channels
    return params


def _convolve(params: Tree, image: Array, stride: int) -> Array:
    """Convolve without padding; image [B, H, W, C] -> [B, H', W', channels]."""
    strides, names = (stride, stride), ("NHWC", "HWIO", "NHWC")
    out = ops.convolve(image, params["kernel"], strides, "VALID", dimension_numbers=names)
    return out + params["bias"]


def _init_norm(size: int) -> Tree:
    """Return the parameters of layer normalization."""
    return {"bias": np.zeros(size), "scale": np.ones(size)}


def _layer_norm(params: Tree, x: Array) -> Array:
    """Normalize over the last axis; x […, size]."""
    dtype, x = x.dtype, ops.at_least_float32(x)
    mean = x.mean(axis=-1)
    # Flax subtracts the mean twice, too: with one difference, gradients are another program.
    var = jnp.square(x - mean[..., None]).mean(axis=-1)
    scale = jax.lax.rsqrt(var[..., None] + NORM_EPSILON) * params["scale"]
    return ((x - mean[..., None]) * scale + params["bias"]).astype(dtype)
