"""PPO in TensorFlow; README.md is the spec. A state is made of variables, written in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tiebreak.algorithms.ppo.config import Config
from tiebreak.algorithms.ppo.data import (
    Act,
    LossTerms,
    Metrics,
    Minibatch,
    Noise,
    Rollout,
    initial_weights,
)
from tiebreak.core.types import Agent, Array, Build, EnvSpec, RunningStats
from tiebreak.frameworks.tensorflow import ops
from tiebreak.frameworks.tensorflow.networks import Policy, Value


def policy_loss(ratio: Array, advantage: Array, config: Config) -> Array:
    """The clipped surrogate (Schulman et al. 2017, eq. 7), negated; [B], [B] -> scalar."""
    if config.normalize_advantage:
        mean, std = tf.reduce_mean(advantage), tf.math.reduce_std(advantage)
        advantage = (advantage - mean) / (std + 1e-8)  # D5
    clipped = tf.clip_by_value(ratio, 1.0 - config.clip, 1.0 + config.clip)
    return tf.reduce_mean(tf.maximum(-advantage * ratio, -advantage * clipped))


def value_loss(value: Array, old_value: Array, target: Array, config: Config) -> Array:
    """Half the mean squared error, pessimistically clipped; [B], [B], [B] -> scalar."""
    error = tf.square(value - target)
    if config.clip_value:  # D6
        moved = old_value + tf.clip_by_value(value - old_value, -config.clip, config.clip)
        error = tf.maximum(error, tf.square(moved - target))
    return 0.5 * tf.reduce_mean(error)


def ppo_loss(policy: Callable, value: Callable, minibatch: Minibatch, config: Config) -> LossTerms:
    """All terms of the loss on one minibatch."""
    distribution = policy(minibatch.obs)
    log_ratio = distribution.log_prob(minibatch.action) - minibatch.log_prob
    ratio = tf.exp(log_ratio)
    entropy = tf.reduce_mean(distribution.entropy())
    actor = policy_loss(ratio, minibatch.advantage, config)
    critic = value_loss(value(minibatch.obs), minibatch.value, minibatch.target, config)
    loss = actor + config.value_coef * critic - config.entropy_coef * entropy
    approx_kl = tf.reduce_mean(ratio - 1.0 - log_ratio)
    clip_fraction = tf.reduce_mean(tf.cast(tf.abs(ratio - 1.0) > config.clip, ratio.dtype))
    return LossTerms(loss, actor, critic, entropy, approx_kl, clip_fraction)


def learning_rate(config: Config, count: Array) -> Array | float:
    """The step size after `count` updates; constant within an iteration."""
    if not config.anneal_lr:
        return config.learning_rate
    iteration = count // config.updates_per_iteration
    return config.learning_rate * tf.maximum(1.0 - iteration / config.num_iterations, 0.0)  # D9


def scale_rewards(
    batch: Rollout, running_return: Array, moments: RunningStats, config: Config
) -> tuple[Array, Array, RunningStats]:
    """Rewards [T, N] over the std of the discounted return; the new running return and moments."""
    going = 1.0 - tf.cast(tf.logical_or(batch.terminated, batch.truncated), batch.reward.dtype)
    first = batch.reward[:1] + config.gamma * running_return
    before = tf.concat([tf.zeros_like(going[:1]), going[:-1]], axis=0)
    rewards = tf.concat([first, batch.reward[1:]], axis=0)
    returns = ops.recurrence(rewards, config.gamma * before)
    moments = ops.merge_stats(moments, tf.reshape(returns, (-1,)))
    scaled = tf.clip_by_value(batch.reward / tf.sqrt(moments.var + 1e-8), -10.0, 10.0)  # D11
    return scaled, returns[-1] * going[-1], moments


def advantages(batch: Rollout, reward: Array, next_value: Array, config: Config) -> Array:
    """Generalized advantage estimates [T, N] of a rollout."""
    going_on = 1.0 - tf.cast(tf.logical_or(batch.terminated, batch.truncated), reward.dtype)
    not_terminated = 1.0 - tf.cast(batch.terminated, reward.dtype)
    keep = not_terminated if config.truncation == "bootstrap" else going_on  # D4
    return ops.gae(reward, batch.value, next_value, keep, going_on, config.gamma, config.gae_lambda)


class AgentDef(NamedTuple):
    """What never changes during training."""

    spec: EnvSpec
    config: Config
    dtype: str
    policy: Policy
    value: Value
    optimizer: Callable[[Array, ops.Adam, Array], None]
    layout: ops.Layout


class State(NamedTuple):
    """What training changes: variables."""

    params: tf.Variable
    opt_state: ops.Adam
    obs_moments: RunningStats
    return_moments: RunningStats
    running_return: tf.Variable


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Networks and optimizer for a spec; no weights."""
    policy = Policy(spec, config.hidden_sizes, config.activation)
    value = Value(spec, config.hidden_sizes, config.activation)
    schedule = partial(learning_rate, config)
    optimizer = ops.make_optimizer(
        config.optimizer, schedule, config.adam_eps, config.max_grad_norm
    )  # D7 D8
    layout = {**policy.shapes(), **value.shapes()}
    return AgentDef(spec, config, build.dtype, policy, value, optimizer, layout)


def init(agent: AgentDef, seed: int) -> State:
    """A new state with the canonical initial weights (D12)."""
    return load(agent, initial_weights(agent.spec, agent.config, seed))  # D12


def act(agent: AgentDef, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, action_size] -> Act; zero noise is greedy."""
    obs, params = _features(agent, state, obs), named(agent, state.params)
    distribution = agent.policy(params, obs)
    raw = action = distribution.sample(_cast(noise, agent.dtype))  # D1
    if not agent.spec.discrete:  # D3
        low, high = (tf.constant(b, agent.dtype) for b in agent.spec.bounds)
        action = ops.rescale_action(raw, low, high)
    value = agent.value(params, obs)
    return Act(action, raw, distribution.log_prob(raw), value)


def prepare(agent: AgentDef, state: State, batch: Rollout) -> tuple[State, Minibatch]:
    """Advantages and targets of a rollout, flattened to B rows; normalizers take it in."""
    config = agent.config
    batch = Rollout(*(_cast(x, agent.dtype) for x in batch))
    rows, reward = batch.reward.shape.num_elements(), batch.reward
    if config.normalize_reward:
        reward, *moved = scale_rewards(batch, state.running_return, state.return_moments, config)
        ops.assign([state.running_return, state.return_moments], moved)
    next_obs = _features(agent, state, tf.reshape(batch.next_obs, (rows, -1)))
    next_value = agent.value(named(agent, state.params), next_obs)  # D2
    advantage = advantages(batch, reward, tf.reshape(next_value, reward.shape), config)
    raw_obs = tf.reshape(batch.obs, (rows, -1))
    data = Minibatch(
        _features(agent, state, raw_obs),
        tf.reshape(batch.action, (rows, *batch.action.shape[2:])),
        *(tf.reshape(x, (rows,)) for x in (batch.log_prob, batch.value, advantage)),
        tf.reshape(advantage + batch.value, (rows,)),
    )
    if config.normalize_obs:
        ops.assign(state.obs_moments, ops.merge_stats(state.obs_moments, raw_obs))  # D10
    return state, data


def gradients(agent: AgentDef, state: State, minibatch: Minibatch) -> tuple[LossTerms, Array]:
    """Loss terms and the raw gradient in the weights."""
    flat = tf.convert_to_tensor(state.params)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(flat)
        params = named(agent, flat)
        policy, value = partial(agent.policy, params), partial(agent.value, params)
        terms = ppo_loss(policy, value, minibatch, agent.config)
    return terms, tape.gradient(terms.loss, flat)


def update(agent: AgentDef, state: State, minibatch: Minibatch) -> tuple[State, Metrics]:
    """One gradient step."""
    terms, grads = gradients(agent, state, minibatch)
    agent.optimizer(grads, state.opt_state, state.params)
    return state, Metrics(*terms, grad_norm=ops.global_norm(grads))


def step(agent: AgentDef, state: State, batch: Rollout, noise: Noise) -> tuple[State, Metrics]:
    """One iteration: prepare, then every epoch's minibatches."""
    state, data = prepare(agent, state, batch)
    size = agent.config.batch_size // agent.config.num_minibatches

    def body(rows):
        _, metrics = update(agent, state, Minibatch(*(tf.gather(x, rows) for x in data)))
        return tf.stack(metrics)

    rows = tf.reshape(noise.permutation, (-1, size))
    metrics = ops.scan(body, rows, len(Metrics._fields), agent.dtype)
    return state, Metrics(*tf.unstack(metrics))


def named(agent: AgentDef, tree: Array) -> dict[str, Array]:
    """A vector laid out like the weights -> canonical names."""
    return ops.unpack(tree, agent.layout)


def dump(agent: AgentDef, state: State) -> dict[str, np.ndarray]:
    """Everything in the state, under canonical names."""
    adam = state.opt_state
    out = named(agent, state.params)
    out.update({f"adam/mu/{k}": v for k, v in named(agent, adam.mu).items()})
    out.update({f"adam/nu/{k}": v for k, v in named(agent, adam.nu).items()})
    out["adam/count"] = tf.cast(adam.count, tf.int32)
    for name, moments in (("obs", state.obs_moments), ("return", state.return_moments)):
        out.update({f"{name}_moments/{k}": v for k, v in moments._asdict().items()})
    out["running_return"] = state.running_return
    return {k: np.array(v.numpy()) for k, v in out.items()}


def load(agent: AgentDef, weights: Mapping[str, np.ndarray]) -> State:
    """What `dump` wrote, in any framework -> state."""

    def variable(name, dtype=agent.dtype):
        return tf.Variable(weights[name], dtype=dtype)

    def moments(name):
        return RunningStats(*(variable(f"{name}_moments/{k}") for k in RunningStats._fields))

    flat = partial(_unnamed, agent, weights)
    adam = ops.Adam(flat("adam/mu/"), flat("adam/nu/"), variable("adam/count", tf.int64))
    return State(flat(""), adam, moments("obs"), moments("return"), variable("running_return"))


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """The five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return Agent(*(partial(fn, agent) for fn in (init, act, step, dump, load)))


def _features(agent: AgentDef, state: State, obs: Array) -> Array:
    obs = _cast(obs, agent.dtype)
    obs = tf.reshape(obs, (obs.shape[0], -1))
    return ops.normalize(obs, state.obs_moments) if agent.config.normalize_obs else obs


def _cast(x: Array, dtype: str) -> Array:
    x = tf.convert_to_tensor(x)
    return tf.cast(x, dtype) if x.dtype.is_floating else x


def _unnamed(agent: AgentDef, weights: Mapping[str, np.ndarray], prefix: str) -> tf.Variable:
    arrays = {name: weights[prefix + name] for name in agent.layout}
    return tf.Variable(ops.pack(arrays, agent.layout), dtype=agent.dtype)
