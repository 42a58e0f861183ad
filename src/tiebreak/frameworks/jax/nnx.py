"""Networks and agents in Flax NNX."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from tiebreak.core.networks import EXPANSION, Layers, convolutions, dense_sizes, gru_sizes
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


class LayerNormMLP(nnx.Module):
    """Dense, LayerNorm, tanh, then dense layers with ELU between; x [B, in] -> [B, sizes[-1]]."""

    def __init__(self, sizes: tuple[int, ...], activation: str, dtype: str, rngs: nnx.Rngs):
        kind = {"dtype": dtype, "param_dtype": dtype, "rngs": rngs}
        self.layers = nnx.List(nnx.Linear(a, b, **kind) for a, b in itertools.pairwise(sizes))
        # The fast variance, E x² − (E x)², loses half of the digits.
        self.norm = nnx.LayerNorm(sizes[1], epsilon=NORM_EPSILON, use_fast_variance=False, **kind)
        self.activation = activation

    def __call__(self, x: Array) -> Array:
        x = jnp.tanh(self.norm(self.layers[0](x)))
        for layer in self.layers[1:-1]:
            x = ACTIVATIONS[self.activation](layer(x))
        return self.layers[-1](x)


class NormMLP(nnx.Module):
    """Dense layers with LayerNorm and an activation between them; x [B, in] -> [B, sizes[-1]]."""

    def __init__(self, sizes: tuple[int, ...], activation: str, dtype: str, rngs: nnx.Rngs):
        kind = {"dtype": dtype, "param_dtype": dtype, "rngs": rngs}
        *pairs, last = itertools.pairwise(sizes)
        normed = [_Normed(nnx.Linear(a, b, **kind), b, dtype, rngs) for a, b in pairs]
        self.layers = nnx.List([*normed, nnx.Linear(*last, **kind)])
        self.activation = activation

    def __call__(self, x: Array) -> Array:
        for layer in self.layers[:-1]:
            x = ACTIVATIONS[self.activation](layer(x))
        return self.layers[-1](x)


class ResidualBlock(nnx.Module):
    """x plus what LayerNorm, a wide dense layer, an activation and a dense layer make of it."""

    def __init__(self, width: int, activation: str, dtype: str, rngs: nnx.Rngs):
        kind = {"dtype": dtype, "param_dtype": dtype, "rngs": rngs}
        sizes = (width, EXPANSION * width, width)
        self.layers = nnx.List(nnx.Linear(a, b, **kind) for a, b in itertools.pairwise(sizes))
        self.norm = nnx.LayerNorm(width, epsilon=NORM_EPSILON, use_fast_variance=False, **kind)
        self.activation = activation

    def __call__(self, x: Array) -> Array:
        wide, narrow = self.layers
        return x + narrow(ACTIVATIONS[self.activation](wide(self.norm(x))))


class SimBa(nnx.Module):
    """A dense layer, residual blocks, LayerNorm and a dense layer (Lee et al. 2024)."""

    def __init__(self, sizes: tuple[int, ...], activation: str, dtype: str, rngs: nnx.Rngs):
        kind = {"dtype": dtype, "param_dtype": dtype, "rngs": rngs}
        inputs, *widths, outputs = sizes
        ends = (inputs, widths[0], outputs)
        self.layers = nnx.List(nnx.Linear(a, b, **kind) for a, b in itertools.pairwise(ends))
        self.block = nnx.List(ResidualBlock(width, activation, dtype, rngs) for width in widths)
        self.norm = nnx.LayerNorm(widths[0], epsilon=NORM_EPSILON, use_fast_variance=False, **kind)

    def __call__(self, x: Array) -> Array:
        first, last = self.layers
        x = first(x)
        for block in self.block:
            x = block(x)
        return last(self.norm(x))


class CNN(nnx.Module):
    """Convolutions over the image that x begins with, then dense layers over that and the rest.

    x [..., sizes[0]] -> [..., sizes[-1]]; `shape` is the image's, [height, width, channels].
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        sizes: tuple[int, ...],
        activation: str,
        dtype: str,
        rngs: nnx.Rngs,
    ):
        self.conv = _conv_layers(shape, dtype, rngs)
        self.dense = MLP(dense_sizes("cnn", shape, sizes), activation, dtype, rngs)
        self.shape = shape
        self.activation = activation

    def __call__(self, x: Array) -> Array:
        size = math.prod(self.shape)
        image = x[..., :size].reshape(-1, *self.shape)
        for layer in self.conv:
            image = ACTIVATIONS[self.activation](layer(image))
        seen = flatten_image(image).reshape(*x.shape[:-1], -1)
        return self.dense(jnp.concatenate([seen, x[..., size:]], axis=-1))


class NormCNN(nnx.Module):
    """A CNN with LayerNorm before each activation; of an image, over the channels of each pixel.

    x [..., sizes[0]] -> [..., sizes[-1]]; `shape` is the image's, [height, width, channels].
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        sizes: tuple[int, ...],
        activation: str,
        dtype: str,
        rngs: nnx.Rngs,
    ):
        layers = zip(_conv_layers(shape, dtype, rngs), convolutions(shape), strict=True)
        self.conv = nnx.List(_Normed(layer, conv.channels, dtype, rngs) for layer, conv in layers)
        self.dense = NormMLP(dense_sizes("norm_cnn", shape, sizes), activation, dtype, rngs)
        self.shape = shape
        self.activation = activation

    def __call__(self, x: Array) -> Array:
        size = math.prod(self.shape)
        image = x[..., :size].reshape(-1, *self.shape)
        for layer in self.conv:
            image = ACTIVATIONS[self.activation](layer(image))
        seen = flatten_image(image).reshape(*x.shape[:-1], -1)
        return self.dense(jnp.concatenate([seen, x[..., size:]], axis=-1))


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
    layers: Layers, shape: tuple[int, ...], sizes: tuple[int, ...], dtype: str, rngs: nnx.Rngs
) -> nnx.Module:
    """Return the layers of a network: x [B, sizes[0]] -> [B, sizes[-1]].

    `shape` is that of observations, with which x begins.
    """
    if layers.kind in IMAGE_TORSOS:
        return IMAGE_TORSOS[layers.kind](shape, sizes, layers.activation, dtype, rngs)
    return TORSOS[layers.kind](sizes, layers.activation, dtype, rngs)


class Policy(nnx.Module):
    """Stochastic policy: obs [B, observation_size] -> distribution over actions."""

    def __init__(self, spec: EnvSpec, layers: Layers, dtype: str, rngs: nnx.Rngs):
        sizes = (spec.observation_size, *layers.sizes, spec.action_size)
        self.torso = make_torso(layers, spec.observation_shape, sizes, dtype, rngs)
        if not spec.discrete:
            self.log_std = nnx.Param(jnp.zeros(spec.action_size, dtype))
        self.discrete, self.nvec = spec.discrete, spec.nvec

    def __call__(self, obs: Array) -> Categorical | MultiCategorical | Gaussian:
        out = self.torso(obs)
        if self.discrete:
            return categorical(out, self.nvec)
        return Gaussian(out, self.log_std[...])


class Value(nnx.Module):
    """State value: obs [B, observation_size] -> [B]."""

    def __init__(self, spec: EnvSpec, layers: Layers, dtype: str, rngs: nnx.Rngs):
        sizes = (spec.observation_size, *layers.sizes, 1)
        self.torso = make_torso(layers, spec.observation_shape, sizes, dtype, rngs)

    def __call__(self, obs: Array) -> Array:
        return self.torso(obs)[..., 0]


class ActionValues(nnx.Module):
    """Q of every discrete action: obs [B, observation_size] -> [B, num_actions].

    With more than one of `atoms`, the logits of as many possible returns instead:
    [B, num_actions, atoms].
    """

    def __init__(
        self,
        spec: EnvSpec,
        layers: Layers,
        dtype: str,
        rngs: nnx.Rngs,
        atoms: int = 1,
    ):
        sizes = (spec.observation_size, *layers.sizes, spec.action_size * atoms)
        self.torso = make_torso(layers, spec.observation_shape, sizes, dtype, rngs)
        self.atoms = atoms

    def __call__(self, obs: Array) -> Array:
        out = self.torso(obs)
        return out if self.atoms == 1 else out.reshape(*out.shape[:-1], -1, self.atoms)


class Critic(nnx.Module):
    """Q of one action: obs [B, observation_size], action [B, action_size] -> [B].

    With `atoms`, the logits of as many possible returns instead: [B, atoms].
    """

    def __init__(
        self,
        spec: EnvSpec,
        layers: Layers,
        dtype: str,
        rngs: nnx.Rngs,
        atoms: int = 0,
    ):
        sizes = (spec.observation_size + spec.action_size, *layers.sizes, atoms or 1)
        self.torso = make_torso(layers, spec.observation_shape, sizes, dtype, rngs)
        self.atoms = atoms

    def __call__(self, obs: Array, action: Array) -> Array:
        out = self.torso(jnp.concatenate([obs, action], axis=-1))
        return out if self.atoms else out[..., 0]


class DeterministicPolicy(nnx.Module):
    """One action per state: obs [B, observation_size] -> [B, action_size] in [-1, 1]."""

    def __init__(self, spec: EnvSpec, layers: Layers, dtype: str, rngs: nnx.Rngs):
        sizes = (spec.observation_size, *layers.sizes, spec.action_size)
        self.torso = make_torso(layers, spec.observation_shape, sizes, dtype, rngs)

    def __call__(self, obs: Array) -> Array:
        return jnp.tanh(self.torso(obs))


class SquashedPolicy(nnx.Module):
    """Stochastic policy over (-1, 1)^A: obs [B, observation_size] -> SquashedGaussian."""

    def __init__(
        self,
        spec: EnvSpec,
        layers: Layers,
        log_std_range: tuple[float, float],
        dtype: str,
        rngs: nnx.Rngs,
    ):
        sizes = (spec.observation_size, *layers.sizes, 2 * spec.action_size)
        self.torso = make_torso(layers, spec.observation_shape, sizes, dtype, rngs)
        self.log_std_range = log_std_range

    def __call__(self, obs: Array) -> SquashedGaussian:
        mean, raw = jnp.split(ops.at_least_float32(self.torso(obs)), 2, axis=-1)
        low, high = self.log_std_range
        return SquashedGaussian(mean, low + 0.5 * (high - low) * (jnp.tanh(raw) + 1.0))


class ScaledPolicy(nnx.Module):
    """Gaussian policy with a std per state: obs [B, observation_size] -> Gaussian [B, A]."""

    def __init__(
        self,
        spec: EnvSpec,
        layers: Layers,
        init_std: float,
        dtype: str,
        rngs: nnx.Rngs,
    ):
        sizes = (spec.observation_size, *layers.sizes, 2 * spec.action_size)
        self.torso = make_torso(layers, spec.observation_shape, sizes, dtype, rngs)
        self.init_std = init_std

    def __call__(self, obs: Array) -> Gaussian:
        mean, raw = jnp.split(self.torso(obs), 2, axis=-1)
        std = jax.nn.softplus(raw) * (self.init_std / math.log(2.0)) + 1e-6
        return Gaussian(mean, jnp.log(std))


class GRU(nnx.Module):
    """Dense layers, then a gated recurrent unit: x [T, B, observation_size] -> [T, B, H].

    `hidden` [B, H] is the state before the first step; where `begins` [T, B] is true, the state
    before a step counts as zero.
    """

    def __init__(self, spec: EnvSpec, layers: Layers, dtype: str, rngs: nnx.Rngs):
        sizes = gru_sizes(spec.observation_size, layers.sizes)
        kind = {"dtype": dtype, "param_dtype": dtype, "rngs": rngs}
        self.layers = nnx.List(nnx.Linear(a, b, **kind) for a, b in sizes)
        self.activation = layers.activation

    def __call__(self, x: Array, hidden: Array, begins: Array) -> Array:
        *dense, of_inputs, of_state = self.layers
        for layer in dense:
            x = ACTIVATIONS[self.activation](layer(x))
        assert of_state.bias is not None
        return ops.gru(of_inputs(x), of_state.kernel[...], of_state.bias[...], hidden, begins)


class AgentDef(NamedTuple):
    """Everything about an agent that training does not change."""

    spec: EnvSpec
    config: Any
    dtype: str
    """Floating-point type of weights and arithmetic."""
    networks: dict[str, Any]
    """Functions of `rngs` that make a module, by canonical name; arrays, or dictionaries of arrays,
    for bare parameters."""
    optimizers: dict[str, optax.GradientTransformation]
    data: ModuleType
    """The algorithm's data.py: NETWORKS, COUNTS, TARGETS and STATISTICS."""
    network_dtype: str = ""
    """Floating-point type that networks compute in, if it is not `dtype`."""


class AgentState(nnx.Module):
    """Everything that training changes; functions may change it in place.

    Dictionaries by optimizer: `params` {optimizer: {network: module}}; `target`, slowly following
    copies of those optimizers' networks that have targets; `opt_state`, of nnx.Optimizer.
    `statistics` are variables by name.
    """

    def __init__(
        self, params: nnx.Dict, target: nnx.Dict, opt_state: nnx.Dict, statistics: nnx.Dict
    ):
        self.params = params
        self.target = target
        self.opt_state = opt_state
        self.statistics = statistics


class Statistic(nnx.Variable):
    """Part of the state that is neither trained nor an optimizer's."""


def network(agent: AgentDef, params: Mapping[str, Any], name: str) -> Callable:
    """Return a network as a function of its inputs; `params` are its optimizer's."""
    module = params[name]
    if agent.network_dtype in ("", agent.dtype):
        return module
    return lambda *inputs: trees.cast(module(*inputs), agent.dtype)


def features(agent: AgentDef, state: AgentState, obs: Array) -> Array:
    """Return observations […, observation_size], normalized if configured, in `agent.dtype`.

    Pixels that are not normalized are scaled to [0, 1].
    """
    obs = jnp.asarray(obs, agent.dtype)
    if not agent.config.normalize_obs:
        return obs / 255.0 if agent.spec.pixels else obs
    return ops.normalize(obs, state.statistics["obs_moments"].get_value())


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
    state.opt_state[name].update(state.params[name], grads[name])
    return state, ops.global_norm(nnx.as_pure(grads[name]))


def update_count(agent: AgentDef, state: AgentState, name: str) -> Array:
    """Return how many updates an optimizer has made; int32."""
    del agent
    return state.opt_state[name].opt_state[1].count[...]


def update_targets(
    agent: AgentDef,
    state: AgentState,
    name: str,
    tau: float,
    average: Callable = trees.interpolate,
) -> AgentState:
    """Move the targets of one optimizer's networks a share `tau` of the way to them."""
    del agent
    new = nnx.state(state.params[name], nnx.Param)
    old = nnx.state(state.target[name], nnx.Param)
    nnx.update(state.target[name], average(new, old, tau))
    return state


def copy_targets(agent: AgentDef, state: AgentState, name: str, period: int) -> AgentState:
    """Copy one optimizer's networks into their targets after every `period` of its updates."""
    due = update_count(agent, state, name) % period == 0
    new = nnx.state(state.params[name], nnx.Param)
    old = nnx.state(state.target[name], nnx.Param)
    nnx.update(state.target[name], ops.periodic_update(due, new, old))
    return state


def update_statistics(agent: AgentDef, state: AgentState, obs: Array) -> AgentState:
    """Take raw observations [..., observation_size] into `obs_moments`, if these are used."""
    if not agent.config.normalize_obs:
        return state
    rows = jnp.asarray(obs, agent.dtype).reshape(-1, agent.spec.observation_size)
    moments = ops.merge_stats(state.statistics["obs_moments"].get_value(), rows)
    state.statistics["obs_moments"].set_value(moments)
    return state


def named(agent: AgentDef, tree: Mapping[str, Any]) -> dict[str, Array]:
    """Return trees by optimizer, shaped like parameters, as arrays under canonical names."""
    del agent
    return trees.named_by_optimizer({name: nnx.as_pure(part) for name, part in tree.items()})


def dump(agent: AgentDef, state: AgentState) -> dict[str, np.ndarray]:
    """Return everything in the state as NumPy arrays under canonical names."""
    optimizers = state.opt_state.items()
    adams = {name: nnx.as_pure(optimizer.opt_state[1]) for name, optimizer in optimizers}
    statistics = {name: variable.get_value() for name, variable in state.statistics.items()}
    params, target = _weights(state.params), _weights(state.target)
    return trees.dump_arrays(agent.data.COUNTS, params, target, adams, statistics)


def load(agent: AgentDef, weights: Mapping[str, np.ndarray]) -> AgentState:
    """Return the state that `dump` has written, in any framework."""
    params = _make_networks(agent, agent.optimizers)
    target = _make_networks(agent, agent.data.TARGETS)
    for name in params:
        _fill(nnx.state(params[name], nnx.Param), weights, "", agent.dtype)
    for name in target:
        _fill(nnx.state(target[name], nnx.Param), weights, "target/", agent.dtype)
    opt_state = {
        name: nnx.Optimizer(params[name], optimizer, wrt=nnx.Param)
        for name, optimizer in agent.optimizers.items()
    }
    for name, optimizer in opt_state.items():
        _, adam, schedule = optimizer.opt_state
        _fill(adam.mu, weights, "adam/mu/", agent.dtype)
        _fill(adam.nu, weights, "adam/nu/", agent.dtype)
        for count in (adam.count, schedule.count):
            count[...] = jnp.array(weights[agent.data.COUNTS[name]], jnp.int32)
    statistics = trees.load_statistics(weights, agent.data.STATISTICS, agent.dtype)
    variables = {name: Statistic(value) for name, value in statistics.items()}
    return AgentState(params, target, nnx.Dict(opt_state), nnx.Dict(variables))


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


def _make_networks(agent: AgentDef, optimizers: Iterable[str]) -> nnx.Dict:
    """Return new modules: {optimizer: {network: module}}."""
    modules = nnx.Dict()
    for optimizer in optimizers:
        names = agent.data.NETWORKS[optimizer]
        made = {name: _make_network(agent, name) for name in names if name in agent.networks}
        modules[optimizer] = nnx.Dict(made)
    return modules


def _make_network(agent: AgentDef, name: str) -> Any:
    """Return a new module, parameter or dictionary of parameters; `load` replaces the values."""
    network = agent.networks[name]
    if callable(network):
        return network(rngs=nnx.Rngs(0))  # of its own: `load` may be traced
    if isinstance(network, Mapping):
        return nnx.Dict({k: nnx.Param(jnp.array(x, agent.dtype)) for k, x in network.items()})
    return nnx.Param(jnp.array(network, agent.dtype))


def _weights(modules: nnx.Dict) -> dict[str, Any]:
    """Return the weights of modules by optimizer, as plain arrays."""
    return {name: nnx.as_pure(nnx.state(part, nnx.Param)) for name, part in modules.items()}


def _fill(state: Any, weights: Mapping[str, np.ndarray], prefix: str, dtype: str) -> None:
    """Set every variable to the array that `weights` holds under `prefix` + canonical name."""
    for path, variable in nnx.to_flat_state(state):
        variable.set_value(jnp.array(weights[prefix + trees.name_of(path)], dtype))


def optimizer_rules(state: Any) -> list[optax.GradientTransformation]:
    """Return the optax transformations inside a state's optimizers.

    NNX keeps in an agent's state what its optimizers compute; the other frameworks do not.
    """
    return [optimizer.tx for optimizer in _optimizers(state)]


def replace_optimizer_rules(state: Any, rules: Sequence[optax.GradientTransformation]) -> None:
    """Put the result of `optimizer_rules` into another state of the same kind, in place."""
    for optimizer, rule in zip(_optimizers(state), rules, strict=True):
        optimizer.tx = rule


def _optimizers(state: Any) -> list[nnx.Optimizer]:
    return [node for _, node in nnx.iter_graph(state) if isinstance(node, nnx.Optimizer)]


def _conv_layers(shape: tuple[int, ...], dtype: str, rngs: nnx.Rngs) -> nnx.List:
    layers, channels = [], shape[-1]
    kind = {"dtype": dtype, "param_dtype": dtype, "rngs": rngs}
    kind |= {"padding": "VALID", "conv_general_dilated": ops.convolve}
    for conv in convolutions(shape):
        window, strides = (conv.window, conv.window), (conv.stride, conv.stride)
        layers.append(nnx.Conv(channels, conv.channels, window, strides, **kind))
        channels = conv.channels
    return nnx.List(layers)


class _Normed(nnx.Module):
    """A layer, and LayerNorm over the last axis of its outputs."""

    def __init__(self, layer: nnx.Module, width: int, dtype: str, rngs: nnx.Rngs):
        kind = {"dtype": dtype, "param_dtype": dtype, "rngs": rngs}
        self.layer = layer
        # The fast variance, E x² − (E x)², loses half of the digits.
        self.norm = nnx.LayerNorm(width, epsilon=NORM_EPSILON, use_fast_variance=False, **kind)

    def __call__(self, x: Array) -> Array:
        return self.norm(self.layer(x))
