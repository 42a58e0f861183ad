"""DQN in Flax NNX; README.md is the spec."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from tiebreak.algorithms.dqn.config import Config
from tiebreak.algorithms.dqn.data import Act, Batch, Metrics, Noise, Terms, initial_weights
from tiebreak.algorithms.dqn.losses_jax import dqn_loss, dqn_target, epsilon
from tiebreak.core.types import Agent, Array, Build, EnvSpec, Moments
from tiebreak.frameworks.jax import ops
from tiebreak.frameworks.jax.nnx import ActionValues
from tiebreak.frameworks.jax.trees import name_of


class Static(NamedTuple):
    """What never changes during training."""

    spec: EnvSpec
    config: Config
    dtype: str
    optimizer: optax.GradientTransformation


class State(nnx.Module):
    """What training changes; the functions below may change it in place."""

    def __init__(self, static: Static):
        spec, config, dtype, optimizer = static
        args = (spec, config.hidden_sizes, config.activation, dtype, nnx.Rngs(0))
        self.networks = nnx.Dict(q=ActionValues(*args))
        self.target = nnx.Dict(q=ActionValues(*args))
        self.optimizer = nnx.Optimizer(self.networks, optimizer, wrt=nnx.Param)
        size = spec.observation_size
        self.obs_moments = Statistic(Moments(*(jnp.zeros(s, dtype) for s in ((), size, size))))


class Statistic(nnx.Variable):
    """Part of the state that is neither trained nor the optimizer's."""


def make_static(spec: EnvSpec, config: Config, build: Build) -> Static:
    """The optimizer for a spec; no weights."""
    optimizer = ops.make_optimizer(
        config.optimizer, lambda count: config.learning_rate, config.adam_eps, config.max_grad_norm
    )  # D5
    return Static(spec, config, build.dtype, optimizer)


def init(static: Static, seed: int) -> State:
    """A new state with the canonical initial weights (D6)."""
    return load(static, initial_weights(static.spec, static.config, seed))  # D6


def act(static: Static, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, 2] -> Act; zero noise is greedy."""
    obs = _features(static, state, obs.reshape(len(obs), -1))
    q = state.networks.q(obs)
    count = state.optimizer.opt_state[1].count[...]
    explore = noise[:, 0] > 1.0 - epsilon(static.config, count)  # D1
    anywhere = (noise[:, 1] * static.spec.action_size).astype(jnp.int32)
    action = jnp.where(explore, anywhere, jnp.argmax(q, axis=-1).astype(jnp.int32))
    return Act(action, action)


def prepare(static: Static, state: State, batch: Batch) -> Batch:
    """The batch in the working precision, with features for observations."""
    obs, next_obs = (_features(static, state, x) for x in (batch.obs, batch.next_obs))
    reward, discount = (jnp.asarray(x, static.dtype) for x in (batch.reward, batch.discount))
    return Batch(obs, jnp.asarray(batch.action), reward, discount, next_obs)


def gradients(static: Static, state: State, batch: Batch, noise: Noise) -> tuple[Terms, Any]:
    """Loss terms and the raw gradient in the weights; a batch of features, without axis U."""
    del noise
    target = dqn_target(state.networks.q, state.target.q, batch, static.config)

    def loss(networks):
        terms = dqn_loss(networks.q, batch, target)
        return terms.loss, terms

    grads, terms = nnx.grad(loss, has_aux=True)(state.networks)
    return terms, grads


def update(static: Static, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """One gradient step, and the copy into the target network when it is due."""
    terms, grads = gradients(static, state, batch, noise)
    state.optimizer.update(state.networks, grads)
    due = state.optimizer.opt_state[1].count[...] % static.config.target_period == 0  # D4
    new, old = (nnx.state(tree, nnx.Param) for tree in (state.networks, state.target))
    nnx.update(state.target, ops.copy_when(due, new, old))
    return state, Metrics(*terms, grad_norm=ops.global_norm(nnx.as_pure(grads)))


def step(static: Static, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """All updates of a round, on batches [U, B]; statistics then take the observations in."""

    def body(state, row):
        return update(static, state, *row)

    data = prepare(static, state, batch)
    state, metrics = ops.scan(body, state, (data, noise))
    if static.config.normalize_obs:
        rows = jnp.asarray(batch.obs, static.dtype).reshape(-1, static.spec.observation_size)
        moments = ops.merge_moments(state.obs_moments.get_value(), rows)  # D7
        state.obs_moments.set_value(moments)
    return state, jax.tree.map(jnp.mean, metrics)


def named(static: Static, tree: Any) -> dict[str, Array]:
    """A state shaped like the weights -> canonical names."""
    del static
    return {name_of(path): nnx.as_pure(x) for path, x in nnx.to_flat_state(tree)}


def dump(static: Static, state: State) -> dict[str, np.ndarray]:
    """Everything in the state, under canonical names."""
    adam = state.optimizer.opt_state[1]
    out = named(static, nnx.state(state.networks, nnx.Param))
    target = nnx.state(state.target, nnx.Param)
    trees = ("target", target), ("adam/mu", adam.mu), ("adam/nu", adam.nu)
    out.update({f"{name}/{k}": v for name, tree in trees for k, v in named(static, tree).items()})
    out["adam/count"] = adam.count[...]
    out.update({f"obs_moments/{k}": v for k, v in state.obs_moments.get_value()._asdict().items()})
    return {k: np.asarray(v) for k, v in jax.device_get(out).items()}


def load(static: Static, weights: Mapping[str, np.ndarray]) -> State:
    """What `dump` wrote, in any framework -> state."""
    state = State(static)
    _put(static, nnx.state(state.networks, nnx.Param), weights, "")
    _put(static, nnx.state(state.target, nnx.Param), weights, "target/")
    _, adam, schedule = state.optimizer.opt_state
    _put(static, adam.mu, weights, "adam/mu/")
    _put(static, adam.nu, weights, "adam/nu/")
    for count in (adam.count, schedule.count):
        count[...] = jnp.array(weights["adam/count"], jnp.int32)
    moments = (jnp.array(weights[f"obs_moments/{k}"], static.dtype) for k in Moments._fields)
    state.obs_moments.set_value(Moments(*moments))
    return state


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """The five functions of the contract."""
    static = make_static(spec, config, build)
    return Agent(*(partial(fn, static) for fn in (init, act, step, dump, load)))


def _features(static: Static, state: State, obs: Array) -> Array:
    obs = jnp.asarray(obs, static.dtype)
    if not static.config.normalize_obs:
        return obs
    return ops.normalize(obs, state.obs_moments.get_value())


def _put(static: Static, tree: Any, weights: Mapping[str, np.ndarray], prefix: str) -> None:
    for path, variable in nnx.to_flat_state(tree):
        variable.set_value(jnp.array(weights[prefix + name_of(path)], static.dtype))
