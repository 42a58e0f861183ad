"""DQN in TensorFlow; README.md is the spec. A state is made of variables, written in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tiebreak.algorithms.dqn.config import Config
from tiebreak.algorithms.dqn.data import Act, Batch, LossTerms, Metrics, Noise, initial_weights
from tiebreak.core.types import Agent, Array, Build, EnvSpec, RunningStats
from tiebreak.frameworks.tensorflow import ops
from tiebreak.frameworks.tensorflow.networks import ActionValues


def dqn_target(q: Callable, target_q: Callable, batch: Batch, config: Config) -> Array:
    """What Q is moved towards; [B]."""
    next_q = target_q(batch.next_obs)
    best = tf.argmax(q(batch.next_obs) if config.double_q else next_q, axis=-1)  # D3
    next_value = tf.gather(next_q, best, axis=1, batch_dims=1)
    return tf.stop_gradient(batch.reward + batch.discount * next_value)


def dqn_loss(q: Callable, batch: Batch, target: Array) -> LossTerms:
    """Mean squared temporal-difference error (D2); target [B]."""
    taken = tf.gather(q(batch.obs), batch.action, axis=1, batch_dims=1)
    loss = tf.reduce_mean(tf.square(taken - target))  # D2
    return LossTerms(loss, tf.reduce_mean(taken), tf.reduce_mean(target))


def epsilon(config: Config, count: Array) -> Array:
    """The share of random actions after `count` updates (D1)."""
    count = tf.cast(count, tf.float64)
    steps = config.learning_starts + count * (config.round_steps / config.num_updates)
    done = tf.minimum(steps / (config.exploration_fraction * config.total_steps), 1.0)
    return config.epsilon_start + (config.epsilon_end - config.epsilon_start) * done  # D1


class AgentDef(NamedTuple):
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
    obs_moments: RunningStats


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Network and optimizer for a spec; no weights."""
    q = ActionValues("q", spec, config.hidden_sizes, config.activation)
    optimizer = ops.make_optimizer(
        config.optimizer, lambda count: config.learning_rate, config.adam_eps, config.max_grad_norm
    )  # D5
    return AgentDef(spec, config, build.dtype, q, optimizer, q.shapes())


def init(agent: AgentDef, seed: int) -> State:
    """A new state with the canonical initial weights (D6)."""
    return load(agent, initial_weights(agent.spec, agent.config, seed))  # D6


def act(agent: AgentDef, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, 2] -> Act; zero noise is greedy."""
    obs = _features(agent, state, tf.reshape(obs, (obs.shape[0], -1)))
    q = agent.q(named(agent, state.params), obs)
    share = tf.cast(epsilon(agent.config, state.opt_state.count), noise.dtype)
    explore = noise[:, 0] > 1.0 - share  # D1
    anywhere = tf.cast(noise[:, 1] * agent.spec.action_size, tf.int32)
    action = tf.where(explore, anywhere, tf.argmax(q, axis=-1, output_type=tf.int32))
    return Act(action, action)


def prepare(agent: AgentDef, state: State, batch: Batch) -> Batch:
    """The batch in the working precision, with features for observations."""
    obs, next_obs = (_features(agent, state, x) for x in (batch.obs, batch.next_obs))
    reward, discount = (tf.cast(x, agent.dtype) for x in (batch.reward, batch.discount))
    return Batch(obs, tf.convert_to_tensor(batch.action), reward, discount, next_obs)


def gradients(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[LossTerms, Array]:
    """Loss terms and the raw gradient in the weights; a batch of features, without axis U."""
    del noise
    flat = tf.convert_to_tensor(state.params)
    q, target_q = (partial(agent.q, named(agent, x)) for x in (flat, state.target))
    target = dqn_target(q, target_q, batch, agent.config)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(flat)
        terms = dqn_loss(partial(agent.q, named(agent, flat)), batch, target)
    return terms, tape.gradient(terms.loss, flat)


def update(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """One gradient step, and the copy into the target network when it is due."""
    terms, grads = gradients(agent, state, batch, noise)
    agent.optimizer(grads, state.opt_state, state.params)
    due = state.opt_state.count % agent.config.target_period == 0  # D4
    ops.periodic_update(due, state.params, state.target)
    return state, Metrics(*terms, grad_norm=ops.global_norm(grads))


def step(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """All updates of a round, on batches [U, B]; statistics then take the observations in."""

    def body(u):
        rows = tf.nest.map_structure(lambda x: tf.gather(x, u), (data, noise))
        return tf.stack(update(agent, state, *rows)[1])

    data = prepare(agent, state, batch)

    rows = tf.range(agent.config.num_updates)
    metrics = ops.scan(body, rows, len(Metrics._fields), agent.dtype)
    if agent.config.normalize_obs:
        seen = tf.reshape(tf.cast(batch.obs, agent.dtype), (-1, agent.spec.observation_size))
        ops.assign(state.obs_moments, ops.merge_stats(state.obs_moments, seen))  # D7
    return state, Metrics(*tf.unstack(metrics))


def named(agent: AgentDef, tree: Array) -> dict[str, Array]:
    """A vector laid out like the weights -> canonical names."""
    return ops.unpack(tree, agent.layout)


def dump(agent: AgentDef, state: State) -> dict[str, np.ndarray]:
    """Everything in the state, under canonical names."""
    adam = state.opt_state
    out = named(agent, state.params)
    trees = ("target", state.target), ("adam/mu", adam.mu), ("adam/nu", adam.nu)
    out.update({f"{name}/{k}": v for name, tree in trees for k, v in named(agent, tree).items()})
    out["adam/count"] = tf.cast(adam.count, tf.int32)
    out.update({f"obs_moments/{k}": v for k, v in state.obs_moments._asdict().items()})
    return {k: np.array(v.numpy()) for k, v in out.items()}


def load(agent: AgentDef, weights: Mapping[str, np.ndarray]) -> State:
    """What `dump` wrote, in any framework -> state."""

    def variable(name, dtype=agent.dtype):
        return tf.Variable(weights[name], dtype=dtype)

    flat = partial(_unnamed, agent, weights)
    adam = ops.Adam(flat("adam/mu/"), flat("adam/nu/"), variable("adam/count", tf.int64))
    moments = RunningStats(*(variable(f"obs_moments/{k}") for k in RunningStats._fields))
    return State(flat(""), flat("target/"), adam, moments)


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """The five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return Agent(*(partial(fn, agent) for fn in (init, act, step, dump, load)))


def _features(agent: AgentDef, state: State, obs: Array) -> Array:
    obs = tf.cast(obs, agent.dtype)
    return ops.normalize(obs, state.obs_moments) if agent.config.normalize_obs else obs


def _unnamed(agent: AgentDef, weights: Mapping[str, np.ndarray], prefix: str) -> tf.Variable:
    arrays = {name: weights[prefix + name] for name in agent.layout}
    return tf.Variable(ops.pack(arrays, agent.layout), dtype=agent.dtype)
