"""State, canonical names and updates, shared by all agents in Keras.

Agents are pure functions on every backend: they return a new state. What a runtime has to do for
that lies in `on_torch.py`, `on_tensorflow.py` and `on_jax.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import keras
import numpy as np

from tiebreak.core.off_policy import Batch
from tiebreak.core.types import Agent, Array, Build, EnvSpec, RunningStats, Tree
from tiebreak.frameworks.keras import ops
from tiebreak.frameworks.keras.backend import chosen_backend


class AgentDef(NamedTuple):
    """Facts of an agent that training does not change; `define` makes one."""

    spec: EnvSpec
    config: Any
    """The algorithm's Config."""
    dtype: str
    """Type of weights and arithmetic: float32 or float64."""
    networks: dict[str, Any]
    """Layers by canonical name; arrays for bare parameters."""
    optimizers: dict[str, Callable[[Tree, ops.Adam, Tree], tuple[Tree, ops.Adam]]]
    compiled: dict[str, Callable]
    """Functions by name that PyTorch compiles each; elsewhere they are part of one program."""
    data: ModuleType
    """The algorithm's data.py: NETWORKS, COUNTS, TARGETS and STATISTICS."""


class AgentState(NamedTuple):
    """Everything that training changes; dictionaries by optimizer, statistics by name."""

    params: dict[str, Any]
    """{optimizer: {network: {name in the network: array}}}; an array for a bare parameter."""
    target: dict[str, Any]
    """Slowly following copies of `params`, of those optimizers whose networks have targets."""
    opt_state: dict[str, ops.Adam]
    statistics: dict[str, Any]
    """RunningStats, or one array, by canonical name."""


def define(
    spec: EnvSpec,
    config: Any,
    build: Build,
    data: ModuleType,
    *,
    networks: dict[str, Any],
    optimizers: dict[str, Callable],
    compiled: Mapping[str, Callable],
) -> AgentDef:
    """Return the definition of an agent; see AgentDef for the arguments.

    `networks` may hold one layer under several names. `compiled` has the functions to compile.
    """
    return AgentDef(
        spec=spec,
        config=config,
        dtype=build.dtype,
        networks=networks,
        optimizers=optimizers,
        compiled={name: build.compile(function) for name, function in compiled.items()},
        data=data,
    )


def of_row(update: Callable) -> Callable[..., tuple[AgentState, Array]]:
    """Wrap an `update`: take row `i` of its batch and noise, and return its metrics as a vector."""

    def call(
        agent: AgentDef, state: AgentState, batch: Batch, noise: Any, i: Array
    ) -> tuple[AgentState, Array]:
        state, metrics = update(agent, state, take(batch, i), take(noise, i))
        return state, keras.ops.stack(list(metrics))

    return call


def network(agent: AgentDef, params: Mapping[str, Any], name: str) -> Callable:
    """Return a network as a function of its inputs; `params` are its optimizer's."""
    layer = agent.networks[name]
    variables = layer.named_variables()
    values = [(variables[key], value) for key, value in params[name].items()]

    def call(*inputs: Array) -> Any:
        with keras.StatelessScope(state_mapping=values):
            return layer.call(*inputs)

    return call


def cast(tree: Any, dtype: str) -> Any:
    """Return a NamedTuple of arrays as tensors, with its floating-point numbers in `dtype`."""

    return type(tree)(
        *(keras.ops.convert_to_tensor(x, dtype if is_floating(x) else None) for x in tree)
    )


def is_floating(x: Array) -> bool:
    """Return True if an array holds floating-point numbers."""
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype))


def action_bounds(agent: AgentDef) -> tuple[Array, Array]:
    """Return the lowest and the highest actions of a box, [A] each."""
    low, high = agent.spec.bounds
    return (
        keras.ops.convert_to_tensor(low, agent.dtype),
        keras.ops.convert_to_tensor(high, agent.dtype),
    )


def take(tree: Any, index: Array) -> Any:
    """Return entry `index` (or entries, if it is a vector) of every array's leading axis."""
    return type(tree)(*(keras.ops.take(x, index, axis=0) for x in tree))


def features(agent: AgentDef, state: AgentState, obs: Array) -> Array:
    """Return observations […, observation_size], normalized if configured, in `agent.dtype`.

    Pixels that are not normalized are scaled to [0, 1].
    """
    obs = keras.ops.cast(obs, agent.dtype)
    if not agent.config.normalize_obs:
        return obs / 255.0 if agent.spec.pixels else obs
    return ops.normalize(obs, state.statistics["obs_moments"])


def prepare(agent: AgentDef, state: AgentState, batch: Batch) -> Batch:
    """Return an off-policy batch in `agent.dtype`, with features for observations."""
    batch = cast(batch, agent.dtype)
    obs = features(agent, state, batch.obs)
    next_obs = features(agent, state, batch.next_obs)
    return batch._replace(obs=obs, next_obs=next_obs)


def differentiate(loss: Callable[[Any], Any], params: Tree) -> tuple[Any, Tree]:
    """Return the terms of a loss at an optimizer's `params`, and its raw gradient there.

    `loss` takes parameters and returns terms with a field `loss`.
    """
    return chosen_backend().differentiate(loss, params)


def apply_gradients(
    agent: AgentDef, state: AgentState, name: str, grads: Mapping[str, Any]
) -> tuple[AgentState, Array]:
    """Update the parameters of one optimizer; return the gradient's norm before clipping."""
    optimizer = agent.optimizers[name]
    params, adam = optimizer(grads[name], state.opt_state[name], state.params[name])
    state = state._replace(
        params={**state.params, name: params},
        opt_state={**state.opt_state, name: adam},
    )
    return state, ops.global_norm(grads[name])


def update_count(agent: AgentDef, state: AgentState, name: str) -> Array:
    """Return how many updates an optimizer has made; a whole number."""
    del agent
    return state.opt_state[name].count


def widest(x: Array) -> Array:
    """Return whole numbers as the widest floating-point numbers of this process."""
    return chosen_backend().widest(x)


def update_targets(agent: AgentDef, state: AgentState, name: str, tau: float) -> AgentState:
    """Move the targets of one optimizer's networks a share `tau` of the way to them."""
    del agent
    target = keras.tree.map_structure(
        lambda new, old: tau * new + (1.0 - tau) * old, state.params[name], state.target[name]
    )
    return state._replace(target={**state.target, name: target})


def copy_targets(agent: AgentDef, state: AgentState, name: str, period: int) -> AgentState:
    """Copy one optimizer's networks into their targets after every `period` of its updates."""
    due = update_count(agent, state, name) % period == 0
    target = ops.periodic_update(due, state.params[name], state.target[name])
    return state._replace(target={**state.target, name: target})


def update_statistics(agent: AgentDef, state: AgentState, obs: Array) -> AgentState:
    """Take raw observations […, observation_size] into `obs_moments`, if these are used."""
    if not agent.config.normalize_obs:
        return state
    rows = keras.ops.reshape(keras.ops.cast(obs, agent.dtype), (-1, agent.spec.observation_size))
    moments = ops.merge_stats(state.statistics["obs_moments"], rows)
    return state._replace(statistics={**state.statistics, "obs_moments": moments})


def named(agent: AgentDef, tree: Mapping[str, Any]) -> dict[str, Array]:
    """Return trees by optimizer, shaped like parameters, as arrays under canonical names."""
    del agent
    out: dict[str, Array] = {}
    for networks in tree.values():
        for name, value in networks.items():
            if isinstance(value, Mapping):
                out.update({f"{name}/{key}": x for key, x in value.items()})
            else:
                out[name] = value
    return out


def dump(agent: AgentDef, state: AgentState) -> dict[str, np.ndarray]:
    """Copy everything in the state to NumPy, under canonical names."""
    trees = {
        "": state.params,
        "target/": state.target,
        "adam/mu/": {name: adam.mu for name, adam in state.opt_state.items()},
        "adam/nu/": {name: adam.nu for name, adam in state.opt_state.items()},
    }
    out: dict[str, Array] = {}
    for prefix, tree in trees.items():
        out.update({prefix + name: x for name, x in named(agent, tree).items()})
    for name, count in agent.data.COUNTS.items():
        out[count] = keras.ops.cast(update_count(agent, state, name), "int32")
    for name, value in state.statistics.items():
        if isinstance(value, RunningStats):
            out.update({f"{name}/{field}": x for field, x in value._asdict().items()})
        else:
            out[name] = value
    return {name: np.array(keras.ops.convert_to_numpy(x), order="C") for name, x in out.items()}


def load(agent: AgentDef, weights: Mapping[str, np.ndarray]) -> AgentState:
    """Make a state from the result of `dump`, whichever framework wrote it."""

    def array(name: str, dtype: str = agent.dtype) -> Array:
        # A copy: some backends would share NumPy's memory.
        return keras.ops.copy(keras.ops.convert_to_tensor(np.array(weights[name]), dtype))

    def trained(optimizer: str, prefix: str) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name in agent.data.NETWORKS[optimizer]:
            if name not in agent.networks:
                continue
            if isinstance(agent.networks[name], keras.Layer):
                keys = agent.networks[name].named_variables()
                out[name] = {key: array(f"{prefix}{name}/{key}") for key in keys}
            else:
                out[name] = array(prefix + name)
        return out

    def statistic(name: str) -> Any:
        if name in weights:
            return array(name)
        return RunningStats(*(array(f"{name}/{field}") for field in RunningStats._fields))

    def adam(name: str, count: str) -> ops.Adam:
        return ops.Adam(
            mu=trained(name, "adam/mu/"),
            nu=trained(name, "adam/nu/"),
            count=array(count, chosen_backend().COUNT_DTYPE),
        )

    return AgentState(
        params={name: trained(name, "") for name in agent.data.COUNTS},
        target={name: trained(name, "target/") for name in agent.data.TARGETS},
        opt_state={name: adam(name, count) for name, count in agent.data.COUNTS.items()},
        statistics={name: statistic(name) for name in agent.data.STATISTICS},
    )


def make_agent(agent: AgentDef, initial_weights: Callable, act: Callable, step: Callable) -> Agent:
    """Return the five functions of the contract, bound to `agent`.

    `initial_weights`: (spec, config, seed) -> canonical weights of a new agent.
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
