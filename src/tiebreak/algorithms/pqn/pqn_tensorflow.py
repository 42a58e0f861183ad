"""PQN in TensorFlow; README.md is the spec. A state is made of variables, written in place."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tiebreak.algorithms.pqn import data
from tiebreak.algorithms.pqn.config import Config
from tiebreak.algorithms.pqn.data import (
    Act,
    LossTerms,
    Metrics,
    Minibatch,
    Noise,
    Rollout,
    initial_weights,
    make_optimizers,
)
from tiebreak.core.types import Agent, Array, Build, EnvSpec
from tiebreak.frameworks.tensorflow import agent as plumbing
from tiebreak.frameworks.tensorflow import ops
from tiebreak.frameworks.tensorflow.agent import (
    AgentDef,
    AgentState,
    apply_gradients,
    cast,
    cut,
    differentiate,
    features,
    network,
    take,
    update_count,
    update_statistics,
)
from tiebreak.frameworks.tensorflow.networks import ActionValues


def lambda_returns(batch: Rollout, next_q: Array, config: Config) -> Array:
    """Return the λ-returns [T, N] of a rollout; next_q [T, N, K] are the values of next_obs."""
    next_value = tf.reduce_max(next_q, axis=-1)
    going_on = 1.0 - tf.cast(tf.logical_or(batch.terminated, batch.truncated), next_value.dtype)
    not_terminated = 1.0 - tf.cast(batch.terminated, next_value.dtype)
    keep = not_terminated if config.truncation == "bootstrap" else going_on  # D3

    # What follows the rollout's last step is not known: there the value counts whole.
    known = tf.concat([going_on[:-1], tf.zeros_like(going_on[-1:])], axis=0)
    trace = config.q_lambda * known
    reward = config.reward_scale * batch.reward  # D9
    one_step = reward + config.gamma * (keep - trace) * next_value
    return ops.recurrence(one_step, config.gamma * trace, reverse=True)  # D2


def pqn_loss(q: Callable, minibatch: Minibatch) -> LossTerms:
    """Return half the mean squared distance from the λ-returns."""
    taken = tf.gather(q(minibatch.obs), minibatch.action, axis=1, batch_dims=1)
    loss = 0.5 * tf.reduce_mean(tf.square(taken - minibatch.target))  # D4
    return LossTerms(loss, tf.reduce_mean(taken), tf.reduce_mean(minibatch.target))


def learning_rate(config: Config, count: Array) -> Array | float:
    """Return the step size after `count` updates."""
    if not config.anneal_lr:
        return config.learning_rate
    remaining = 1.0 - count / (config.num_iterations * config.updates_per_iteration)
    return config.learning_rate * tf.maximum(remaining, 0.0)  # D6


def epsilon(config: Config, count: Array) -> Array:
    """Return the share of random actions after `count` updates; constant within an iteration."""
    iteration = tf.cast(count // config.updates_per_iteration, tf.float64)
    decay = max(1.0, config.exploration_fraction * config.num_iterations)
    progress = tf.minimum(iteration / decay, 1.0)
    return config.epsilon_start + (config.epsilon_end - config.epsilon_start) * progress  # D1


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make network and optimizer for a spec, without weights."""
    networks = {"q": ActionValues("q", spec, config.layers)}  # D7
    return AgentDef(
        spec=spec,
        config=config,
        dtype=build.dtype,
        network_dtype=build.dtype,
        networks=networks,
        optimizers=make_optimizers(config, ops.make_optimizer, learning_rate),  # D5
        layouts=plumbing.layouts_of(networks, data.NETWORKS),
        data=data,
    )


def act(agent: AgentDef, state: AgentState, obs: Array, noise: Array) -> Act:
    """Choose actions for obs [N, *obs] and uniform noise [N, 2]; zero noise is greedy."""
    obs = features(agent, state, tf.reshape(obs, (obs.shape[0], -1)))
    q = _action_values(agent, state.params["q"])(obs)
    greedy = tf.argmax(q, axis=-1, output_type=tf.int32)

    share = epsilon(agent.config, update_count(agent, state, "q"))
    share = tf.cast(share, noise.dtype)
    explore = noise[:, 0] > 1.0 - share  # D1
    random = tf.cast(noise[:, 1] * agent.spec.action_size, tf.int32)
    return Act(action=tf.where(explore, random, greedy))


def prepare(agent: AgentDef, state: AgentState, batch: Rollout) -> tuple[AgentState, Minibatch]:
    """Return the λ-returns of a rollout as B rows; statistics take it in."""
    batch = cast(batch, agent.dtype)
    num_rows = batch.reward.shape.num_elements()
    next_obs = features(agent, state, tf.reshape(batch.next_obs, (num_rows, -1)))
    next_q = _action_values(agent, state.params["q"])(next_obs)
    next_q = tf.reshape(next_q, (*batch.reward.shape, -1))
    target = lambda_returns(batch, next_q, agent.config)

    obs = tf.reshape(batch.obs, (num_rows, -1))
    rows = Minibatch(
        obs=features(agent, state, obs),
        action=tf.reshape(batch.action, (num_rows,)),
        target=tf.reshape(target, (num_rows,)),
    )
    return update_statistics(agent, state, obs), rows  # D10


def gradients(
    agent: AgentDef, state: AgentState, minibatch: Minibatch
) -> tuple[LossTerms, dict[str, Array]]:
    """Return terms and raw gradient of the loss."""

    def loss(flat: Array) -> LossTerms:
        return pqn_loss(_action_values(agent, flat), minibatch)

    return differentiate(loss, state, "q")


def update(agent: AgentDef, state: AgentState, minibatch: Minibatch) -> tuple[AgentState, Metrics]:
    """Take one gradient step."""
    terms, grads = gradients(agent, state, minibatch)
    state, norm = apply_gradients(agent, state, "q", grads)
    return state, Metrics(*terms, grad_norm=norm)


def step(
    agent: AgentDef, state: AgentState, batch: Rollout, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Run one iteration: prepare the rollout, then update on every epoch's minibatches."""
    state, rows = prepare(agent, state, batch)

    def body(minibatch: Array) -> Array:
        _, metrics = update(agent, state, take(rows, minibatch))
        return tf.stack(metrics)

    size = agent.config.batch_size // agent.config.num_minibatches
    indices = tf.reshape(noise.permutation, (-1, size))
    metrics = ops.scan(body, indices, len(Metrics._fields), agent.dtype)
    return state, Metrics(*tf.unstack(metrics))


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """Return the five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return plumbing.make_agent(agent, initial_weights, act, step)  # D8


def _action_values(agent: AgentDef, flat: Array) -> Callable:
    """Return the action values: features [B, …] -> [B, num_actions]."""
    return network(agent, cut(agent, "q", flat), "q")
