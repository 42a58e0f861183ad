"""DQN in TensorFlow; README.md is the spec. A state is made of variables, written in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tiebreak.algorithms.dqn.config import Config
from tiebreak.algorithms.dqn.data import Act, Batch, Metrics, Noise, Terms, initial_weights
from tiebreak.core.types import Agent, Array, Build, EnvSpec, Moments
from tiebreak.frameworks.tensorflow import ops
from tiebreak.frameworks.tensorflow.networks import ActionValues


def dqn_target(q: Callable, target_q: Callable, batch: Batch, config: Config) -> Array:
    """What Q is moved towards; [B]."""
    next_q = target_q(batch.next_obs)
    best = tf.argmax(q(batch.next_obs) if config.double_q else next_q, axis=-1)  # D3
    next_value = tf.gather(next_q, best, axis=1, batch_dims=1)
    return tf.stop_gradient(batch.reward + batch.discount * next_value)


def dqn_loss(q: Callable, batch: Batch, target: Array) -> Terms:
    """Mean squared temporal-difference error (D2); target [B]."""
    taken = tf.gather(q(batch.obs), batch.action, axis=1, batch_dims=1)
    loss = tf.reduce_mean(tf.square(taken - target))  # D2
    return Terms(loss, tf.reduce_mean(taken), tf.reduce_mean(target))


def epsilon(config: Config, count: Array) -> Array:
    """The share of random actions after `count` updates (D1)."""
    count = tf.cast(count, tf.float64)
    steps = config.learning_starts + count * (config.round_steps / config.num_updates)
    done = tf.minimum(steps / (config.exploration_fraction * config.total_steps), 1.0)
    return config.epsilon_start + (config.epsilon_end - config.epsilon_start) * done  # D1


class Static(NamedTuple):
    """What never changes during training."""

    spec: EnvSpec
    config: Config
    dtype: str
    q: ActionValues
    optimizer: Callable[[Array, ops.Adam, Array], None]
    layout: ops.Layout


class State(NamedTuple):
    """What training changes: variables."""

    params: tf.Variable
    target: tf.Variable
    opt_state: ops.Adam
    obs_moments: Moments


def make_static(spec: EnvSpec, config: Config, build: Build) -> Static:
    """Network and optimizer for a spec; no weights."""
    q = ActionValues("q", spec, config.hidden_sizes, config.activation)
    optimizer = ops.make_optimizer(
        config.optimizer, lambda count: config.learning_rate, config.adam_eps, config.max_grad_norm
    )  # D5
    return Static(spec, config, build.dtype, q, optimizer, q.shapes())


def init(static: Static, seed: int) -> State:
    """A new state with the canonical initial weights (D6)."""
    return load(static, initial_weights(static.spec, static.config, seed))  # D6


def act(static: Static, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, 2] -> Act; zero noise is greedy."""
    obs = _features(static, state, tf.reshape(obs, (obs.shape[0], -1)))
    q = static.q(named(static, state.params), obs)
    share = tf.cast(epsilon(static.config, state.opt_state.count), noise.dtype)
    explore = noise[:, 0] > 1.0 - share  # D1
    anywhere = tf.cast(noise[:, 1] * static.spec.action_size, tf.int32)
    action = tf.where(explore, anywhere, tf.argmax(q, axis=-1, output_type=tf.int32))
    return Act(action, action)


def prepare(static: Static, state: State, batch: Batch) -> Batch:
    """The batch in the working precision, with features for observations."""
    obs, next_obs = (_features(static, state, x) for x in (batch.obs, batch.next_obs))
    reward, discount = (tf.cast(x, static.dtype) for x in (batch.reward, batch.discount))
    return Batch(obs, tf.convert_to_tensor(batch.action), reward, discount, next_obs)


def gradients(static: Static, state: State, batch: Batch, noise: Noise) -> tuple[Terms, Array]:
    """Loss terms and the raw gradient in the weights; a batch of features, without axis U."""
    del noise
    flat = tf.convert_to_tensor(state.params)
    q, target_q = (partial(static.q, named(static, x)) for x in (flat, state.target))
    target = dqn_target(q, target_q, batch, static.config)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(flat)
        terms = dqn_loss(partial(static.q, named(static, flat)), batch, target)
    return terms, tape.gradient(terms.loss, flat)


def update(static: Static, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """One gradient step, and the copy into the target network when it is due."""
    terms, grads = gradients(static, state, batch, noise)
    static.optimizer(grads, state.opt_state, state.params)
    due = state.opt_state.count % static.config.target_period == 0  # D4
    ops.copy_when(due, state.params, state.target)
    return state, Metrics(*terms, grad_norm=ops.global_norm(grads))


def step(static: Static, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """All updates of a round, on batches [U, B]; statistics then take the observations in."""

    def body(u):
        rows = tf.nest.map_structure(lambda x: tf.gather(x, u), (data, noise))
        return tf.stack(update(static, state, *rows)[1])

    data = prepare(static, state, batch)

    rows = tf.range(static.config.num_updates)
    metrics = ops.scan(body, rows, len(Metrics._fields), static.dtype)
    if static.config.normalize_obs:
        seen = tf.reshape(tf.cast(batch.obs, static.dtype), (-1, static.spec.observation_size))
        ops.assign(state.obs_moments, ops.merge_moments(state.obs_moments, seen))  # D7
    return state, Metrics(*tf.unstack(metrics))


def named(static: Static, tree: Array) -> dict[str, Array]:
    """A vector laid out like the weights -> canonical names."""
    return ops.unpack(tree, static.layout)


def dump(static: Static, state: State) -> dict[str, np.ndarray]:
    """Everything in the state, under canonical names."""
    adam = state.opt_state
    out = named(static, state.params)
    trees = ("target", state.target), ("adam/mu", adam.mu), ("adam/nu", adam.nu)
    out.update({f"{name}/{k}": v for name, tree in trees for k, v in named(static, tree).items()})
    out["adam/count"] = tf.cast(adam.count, tf.int32)
    out.update({f"obs_moments/{k}": v for k, v in state.obs_moments._asdict().items()})
    return {k: np.array(v.numpy()) for k, v in out.items()}


def load(static: Static, weights: Mapping[str, np.ndarray]) -> State:
    """What `dump` wrote, in any framework -> state."""

    def variable(name, dtype=static.dtype):
        return tf.Variable(weights[name], dtype=dtype)

    flat = partial(_unnamed, static, weights)
    adam = ops.Adam(flat("adam/mu/"), flat("adam/nu/"), variable("adam/count", tf.int64))
    moments = Moments(*(variable(f"obs_moments/{k}") for k in Moments._fields))
    return State(flat(""), flat("target/"), adam, moments)


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """The five functions of the contract."""
    static = make_static(spec, config, build)
    return Agent(*(partial(fn, static) for fn in (init, act, step, dump, load)))


def _features(static: Static, state: State, obs: Array) -> Array:
    obs = tf.cast(obs, static.dtype)
    return ops.normalize(obs, state.obs_moments) if static.config.normalize_obs else obs


def _unnamed(static: Static, weights: Mapping[str, np.ndarray], prefix: str) -> tf.Variable:
    arrays = {name: weights[prefix + name] for name in static.layout}
    return tf.Variable(ops.pack(arrays, static.layout), dtype=static.dtype)
