"""Plumbing of all agents in TensorFlow: the state, canonical names and updates in place.

The weights of one optimizer are one flat variable (see ops.py). Functions that change a state write
into its variables and return it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tiebreak.core.off_policy import Batch
from tiebreak.core.types import Agent, Array, EnvSpec, RunningStats, Tree
from tiebreak.frameworks.tensorflow import ops


class AgentDef(NamedTuple):
    """Facts of an agent that training does not change."""

    spec: EnvSpec
    config: Any
    dtype: str
    """Type of weights, losses and updates: float32 or float64."""
    network_dtype: str
    """Type that networks compute in: `dtype`, or bfloat16."""
    networks: dict[str, Any]
    """Networks without weights, by canonical name."""
    optimizers: dict[str, Callable[[Array, ops.Adam, Array], None]]
    layouts: dict[str, ops.Layout]
    """Canonical names and shapes in each optimizer's vector (see `layouts_of`)."""
    data: ModuleType
    """The algorithm's data.py: NETWORKS, COUNTS, TARGETS and STATISTICS."""


class AgentState(NamedTuple):
    """Everything that training changes, as variables."""

    params: dict[str, tf.Variable]
    """Vector of weights by optimizer."""
    target: dict[str, tf.Variable]
    """Target networks' vector by optimizer, for those of TARGETS."""
    opt_state: dict[str, ops.Adam]
    statistics: dict[str, Any]
    """RunningStats, or one variable, by canonical name."""


def layouts_of(
    networks: Mapping[str, Any], trained: Mapping[str, tuple[str, ...]]
) -> dict[str, ops.Layout]:
    """Return the layout of each optimizer's vector: its networks' weights, one after the other.

    `trained` is the algorithm's NETWORKS. Names in it that are not in `networks` are skipped.
    """
    layouts: dict[str, ops.Layout] = {}
    for optimizer, names in trained.items():
        layout: dict[str, tuple[int, ...]] = {}
        for name in names:
            if name in networks:
                layout.update(networks[name].shapes())
        layouts[optimizer] = layout
    return layouts


def cut(agent: AgentDef, name: str, flat: Array) -> dict[str, Array]:
    """Cut an optimizer's vector into named tensors, of the type that networks compute in."""
    return ops.unpack(tf.cast(flat, agent.network_dtype), agent.layouts[name])


def network(agent: AgentDef, params: Mapping[str, Array], name: str) -> Callable:
    """Return a network as a function of its inputs; `params` are its optimizer's (see `cut`)."""
    apply = partial(agent.networks[name], params)
    if agent.network_dtype == agent.dtype:
        return apply

    def call(*inputs: Array) -> Any:
        return cast(apply(*(tf.cast(x, agent.network_dtype) for x in inputs)), agent.dtype)

    return call


def cast(tree: Tree, dtype: str) -> Tree:
    """Convert leaves to tensors; floating-point numbers become `dtype`, others keep their type."""

    def convert(x: Array) -> Array:
        x = tf.convert_to_tensor(x)
        return tf.cast(x, dtype) if x.dtype.is_floating else x

    return tf.nest.map_structure(convert, tree)


def take(tree: Tree, index: Array) -> Tree:
    """Return entry `index` (or entries, if it is a vector) of every leaf's leading axis."""
    return tf.nest.map_structure(lambda x: tf.gather(x, index), tree)


def mean_columns(rows: Sequence[Sequence[Array]]) -> list[Array]:
    """Return the mean of each column: rows of scalars, as the updates of a group return them."""
    return [sum(column) / len(column) for column in zip(*rows, strict=True)]


def features(agent: AgentDef, state: AgentState, obs: Array) -> Array:
    """Return observations […, observation_size] in the working precision, normalised if set.

    Pixels that are not normalised are scaled to [0, 1].
    """
    obs = tf.cast(obs, agent.dtype)
    if agent.config.normalize_obs:
        obs = ops.normalize(obs, state.statistics["obs_moments"])
    elif agent.spec.pixels:
        obs = obs / 255.0
    return obs


def prepare(agent: AgentDef, state: AgentState, batch: Batch) -> Batch:
    """Return an off-policy batch in the working precision, with features for observations."""
    batch = cast(batch, agent.dtype)
    obs = features(agent, state, batch.obs)
    next_obs = features(agent, state, batch.next_obs)
    return batch._replace(obs=obs, next_obs=next_obs)


def differentiate(
    loss: Callable[..., Any], state: AgentState, *names: str
) -> tuple[Any, dict[str, Array]]:
    """Evaluate a loss and its gradient in the vectors of the optimizers `names`.

    `loss` takes these vectors as arguments and returns terms with a field `loss`. Returns the terms
    and the raw gradients by optimizer.
    """
    params = {name: tf.convert_to_tensor(state.params[name]) for name in names}
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(params)
        terms = loss(*(params[name] for name in names))
    return terms, tape.gradient(terms.loss, params)


def apply_gradients(
    agent: AgentDef, state: AgentState, name: str, grads: Mapping[str, Array]
) -> tuple[AgentState, Array]:
    """Take one step of an optimizer; return the state and the gradient norm before clipping."""
    agent.optimizers[name](grads[name], state.opt_state[name], state.params[name])
    return state, ops.global_norm(grads[name])


def update_count(agent: AgentDef, state: AgentState, name: str) -> Array:
    """Return how many steps an optimizer has taken."""
    del agent
    return state.opt_state[name].count


def update_targets(agent: AgentDef, state: AgentState, name: str, tau: float) -> AgentState:
    """Move an optimizer's target networks by the share `tau` towards its networks."""
    del agent
    target = state.target[name]
    target.assign_add(tau * (state.params[name] - target))
    return state


def copy_targets(agent: AgentDef, state: AgentState, name: str, period: int) -> AgentState:
    """Copy an optimizer's networks into its targets after every `period` of its updates."""
    due = update_count(agent, state, name) % period == 0
    ops.periodic_update(due, state.params[name], state.target[name])
    return state


def update_statistics(agent: AgentDef, state: AgentState, obs: Array) -> AgentState:
    """Take raw observations into `obs_moments`, if the configuration normalises observations."""
    if agent.config.normalize_obs:
        rows = tf.reshape(tf.cast(obs, agent.dtype), (-1, agent.spec.observation_size))
        moments = state.statistics["obs_moments"]
        ops.assign(moments, ops.merge_stats(moments, rows))
    return state


def named(agent: AgentDef, tree: Mapping[str, Array]) -> dict[str, Array]:
    """Cut vectors by optimizer (weights, targets, moments or gradients) into canonical names."""
    out: dict[str, Array] = {}
    for name, flat in tree.items():
        out.update(ops.unpack(flat, agent.layouts[name]))
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
        out[count] = tf.cast(state.opt_state[name].count, tf.int32)
    for name, value in state.statistics.items():
        if isinstance(value, RunningStats):
            out.update({f"{name}/{field}": x for field, x in value._asdict().items()})
        else:
            out[name] = value
    return {name: np.array(x.numpy()) for name, x in out.items()}


def load(agent: AgentDef, weights: Mapping[str, np.ndarray]) -> AgentState:
    """Make a state from the result of `dump`, whichever framework wrote it."""

    def variable(name: str, dtype: str = agent.dtype) -> tf.Variable:
        return tf.Variable(weights[name], dtype=dtype)

    def vector(name: str, prefix: str) -> tf.Variable:
        layout = agent.layouts[name]
        arrays = {key: weights[prefix + key] for key in layout}
        return tf.Variable(ops.pack(arrays, layout), dtype=agent.dtype)

    def statistic(name: str) -> Any:
        if name in weights:
            return variable(name)
        return RunningStats(*(variable(f"{name}/{field}") for field in RunningStats._fields))

    def adam(name: str, count: str) -> ops.Adam:
        return ops.Adam(
            mu=vector(name, "adam/mu/"), nu=vector(name, "adam/nu/"), count=variable(count, "int64")
        )

    return AgentState(
        params={name: vector(name, "") for name in agent.layouts},
        target={name: vector(name, "target/") for name in agent.data.TARGETS},
        opt_state={name: adam(name, count) for name, count in agent.data.COUNTS.items()},
        statistics={name: statistic(name) for name in agent.data.STATISTICS},
    )


def make_agent(agent: AgentDef, initial_weights: Callable, act: Callable, step: Callable) -> Agent:
    """Return the five functions of the contract, bound to `agent`."""

    def init(seed: int) -> AgentState:
        return load(agent, initial_weights(agent.spec, agent.config, seed))

    return Agent(
        init=init,
        act=partial(act, agent),
        step=partial(step, agent),
        dump=partial(dump, agent),
        load=partial(load, agent),
    )
