"""DQN in TensorFlow; README.md is the spec. A state is made of variables, written in place."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tiebreak.algorithms.dqn import data
from tiebreak.algorithms.dqn.config import Config
from tiebreak.algorithms.dqn.data import (
    Act,
    Batch,
    LossTerms,
    Metrics,
    Noise,
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
    copy_targets,
    cut,
    differentiate,
    features,
    network,
    prepare,
    take,
    update_count,
    update_statistics,
)
from tiebreak.frameworks.tensorflow.networks import ActionValues


def expected_values(outputs: Array, config: Config) -> Array:
    """Return action values [B, A]: a network's outputs, or the means of its distributions."""
    if config.num_atoms == 1:
        return outputs
    return tf.reduce_sum(tf.nn.softmax(outputs) * ops.atoms(*config.span, outputs), axis=-1)  # D8


def dqn_target(q: Callable, target_q: Callable, batch: Batch, config: Config) -> Array:
    """Return the value [B], or distribution [B, K], that Q is moved towards by the target network.

    It is the reward plus the discounted value of the best next action.
    """
    next_q = target_q(batch.next_obs)
    choosing_q = q(batch.next_obs) if config.double_q else next_q  # D3
    best = tf.argmax(expected_values(choosing_q, config), axis=-1)
    if config.num_atoms > 1:
        logits = tf.gather(next_q, best, axis=1, batch_dims=1)
        return tf.stop_gradient(shifted_distribution(logits, batch, config))  # D8
    next_value = tf.gather(next_q, best, axis=1, batch_dims=1)
    return tf.stop_gradient(batch.reward + batch.discount * next_value)


def shifted_distribution(logits: Array, batch: Batch, config: Config) -> Array:
    """Return the distribution of reward plus discounted return, on the atoms; logits [B, K]."""
    probs = tf.nn.softmax(logits)
    values = batch.discount[:, None] * ops.atoms(*config.span, probs)
    values = tf.clip_by_value(batch.reward[:, None] + values, *config.span)
    return ops.project_distribution(probs, values, *config.span)


def dqn_loss(q: Callable, batch: Batch, target: Array, config: Config) -> LossTerms:
    """Return the mean squared temporal-difference error; target [B].

    Of distributions, the mean cross-entropy; target [B, K].
    """
    taken = tf.gather(q(batch.obs), batch.action, axis=1, batch_dims=1)
    if config.num_atoms > 1:
        return distribution_loss(taken, target, config)  # D8
    loss = tf.reduce_mean(tf.square(taken - target))  # D2
    return LossTerms(loss, tf.reduce_mean(taken), tf.reduce_mean(target))


def distribution_loss(logits: Array, target: Array, config: Config) -> LossTerms:
    """Return the mean cross-entropy of the taken actions' logits [B, K]; target [B, K]."""
    cross_entropy = -tf.reduce_sum(target * tf.nn.log_softmax(logits), axis=-1)
    target_value = tf.reduce_sum(target * ops.atoms(*config.span, target), axis=-1)
    q = expected_values(logits, config)
    return LossTerms(tf.reduce_mean(cross_entropy), tf.reduce_mean(q), tf.reduce_mean(target_value))


def epsilon(config: Config, count: Array) -> Array:
    """Return the share of random actions after `count` updates (D1)."""
    count = tf.cast(count, tf.float64)
    steps = config.learning_starts + count * (config.round_steps / config.num_updates)
    progress = tf.minimum(steps / (config.exploration_fraction * config.total_steps), 1.0)
    return config.epsilon_start + (config.epsilon_end - config.epsilon_start) * progress  # D1


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make network and optimizer for a spec, without weights."""
    networks = {"q": ActionValues("q", spec, config.layers, config.num_atoms)}
    return AgentDef(
        spec=spec,
        config=config,
        dtype=build.dtype,
        network_dtype=build.dtype,
        networks=networks,
        optimizers=make_optimizers(config, ops.make_optimizer),  # D5
        layouts=plumbing.layouts_of(networks, data.NETWORKS),
        data=data,
    )


def act(agent: AgentDef, state: AgentState, obs: Array, noise: Array) -> Act:
    """Choose actions for obs [N, *obs] and uniform noise [N, 2]; zero noise is greedy."""
    obs = features(agent, state, tf.reshape(obs, (obs.shape[0], -1)))
    q = expected_values(_q(agent, state.params["q"])(obs), agent.config)  # D8
    greedy = tf.argmax(q, axis=-1, output_type=tf.int32)

    share = epsilon(agent.config, update_count(agent, state, "q"))
    share = tf.cast(share, noise.dtype)
    explore = noise[:, 0] > 1.0 - share  # D1
    random = tf.cast(noise[:, 1] * agent.spec.action_size, tf.int32)
    action = tf.where(explore, random, greedy)
    return Act(action=action, raw_action=action)


def gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[LossTerms, dict[str, Array]]:
    """Return terms and raw gradient of the loss; batch [B] of features."""
    del noise
    q = _q(agent, state.params["q"])
    target_q = _q(agent, state.target["q"])
    target = dqn_target(q, target_q, batch, agent.config)

    def loss(flat: Array) -> LossTerms:
        return dqn_loss(_q(agent, flat), batch, target, agent.config)

    return differentiate(loss, state, "q")


def update(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Take one gradient step, and copy the weights into the target network when it is due."""
    terms, grads = gradients(agent, state, batch, noise)
    state, norm = apply_gradients(agent, state, "q", grads)
    state = copy_targets(agent, state, "q", agent.config.target_period)  # D4
    return state, Metrics(*terms, grad_norm=norm)


def step(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Run all updates of a round on batches [U, B]; then update observation statistics."""
    rows = prepare(agent, state, batch), cast(noise, agent.dtype)

    def body(u: Array) -> Array:
        _, metrics = update(agent, state, *take(rows, u))
        return tf.stack(metrics)

    indices = tf.range(agent.config.num_updates)
    metrics = ops.scan(body, indices, len(Metrics._fields), agent.dtype)
    state = update_statistics(agent, state, batch.obs)  # D7
    return state, Metrics(*tf.unstack(metrics))


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """Return the five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return plumbing.make_agent(agent, initial_weights, act, step)  # D6


def _q(agent: AgentDef, flat: Array) -> Callable:
    """Return the action values: features [B, …] -> [B, A], or logits [B, A, K]."""
    return network(agent, cut(agent, "q", flat), "q")
