"""PPO in TensorFlow; README.md is the spec. A state is made of variables, written in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tiebreak.algorithms.ppo import data
from tiebreak.algorithms.ppo.config import Config
from tiebreak.algorithms.ppo.data import (
    Act,
    LossTerms,
    Metrics,
    Minibatch,
    Noise,
    RecurrentAct,
    RecurrentRollout,
    Rollout,
    Sequences,
    initial_weights,
    make_optimizers,
)
from tiebreak.core.memory import Memory
from tiebreak.core.networks import heads
from tiebreak.core.types import Agent, Array, Build, EnvSpec, RunningStats
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
    update_statistics,
)
from tiebreak.frameworks.tensorflow.networks import GRU, Policy, Value


def policy_loss(ratio: Array, advantage: Array, config: Config) -> Array:
    """Return the clipped surrogate (Schulman et al. 2017, eq. 7), negated; [B], [B] -> scalar.

    With `drift` "dpo", it is the plain surrogate less a drift.
    """
    if config.normalize_advantage:
        mean, std = tf.reduce_mean(advantage), tf.math.reduce_std(advantage)
        advantage = (advantage - mean) / (std + 1e-8)  # D5
    if config.drift == "dpo":
        return tf.reduce_mean(dpo_drift(ratio, advantage, config) - advantage * ratio)  # D15
    clipped = tf.clip_by_value(ratio, 1.0 - config.clip, 1.0 + config.clip)
    return tf.reduce_mean(tf.maximum(-advantage * ratio, -advantage * clipped))


def dpo_drift(ratio: Array, advantage: Array, config: Config) -> Array:
    """Return the drift that DPO discovered (Lu et al. 2022, section 5); [B], [B] -> [B]."""
    better = (ratio - 1.0) * advantage
    worse = tf.math.log(ratio) * advantage
    if_better = tf.nn.relu(better - config.dpo_alpha * tf.tanh(better / config.dpo_alpha))
    if_worse = tf.nn.relu(worse - config.dpo_beta * tf.tanh(worse / config.dpo_beta))
    return tf.where(advantage >= 0.0, if_better, if_worse)


def value_loss(value: Array, old_value: Array, target: Array, config: Config) -> Array:
    """Return half the mean squared error, pessimistically clipped; [B], [B], [B] -> scalar."""
    error = tf.square(value - target)
    if config.clip_value:  # D6
        moved = old_value + tf.clip_by_value(value - old_value, -config.clip, config.clip)
        error = tf.maximum(error, tf.square(moved - target))
    return 0.5 * tf.reduce_mean(error)


def ppo_loss(policy: Callable, value: Callable, minibatch: Minibatch, config: Config) -> LossTerms:
    """Return all terms of the loss on one minibatch."""
    distribution = policy(minibatch.obs)
    log_ratio = distribution.log_prob(minibatch.action) - minibatch.log_prob
    ratio = tf.exp(log_ratio)
    entropy = tf.reduce_mean(distribution.entropy())

    actor = policy_loss(ratio, minibatch.advantage, config)
    critic = value_loss(value(minibatch.obs), minibatch.value, minibatch.target, config)
    clipped = tf.cast(tf.abs(ratio - 1.0) > config.clip, ratio.dtype)
    return LossTerms(
        loss=actor + config.value_coef * critic - config.entropy_coef * entropy,
        policy_loss=actor,
        value_loss=critic,
        entropy=entropy,
        approx_kl=tf.reduce_mean(ratio - 1.0 - log_ratio),
        clip_fraction=tf.reduce_mean(clipped),
    )


def learning_rate(config: Config, count: Array) -> Array | float:
    """Return the step size after `count` updates; constant within an iteration."""
    if not config.anneal_lr:
        return config.learning_rate
    iteration = count // config.updates_per_iteration
    return config.learning_rate * tf.maximum(1.0 - iteration / config.num_iterations, 0.0)  # D9


def scale_rewards(
    batch: Rollout, running_return: Array, moments: RunningStats, config: Config
) -> tuple[Array, Array, RunningStats]:
    """Divide rewards [T, N] by the std of the discounted return; return the new statistics too."""
    going = 1.0 - tf.cast(tf.logical_or(batch.terminated, batch.truncated), batch.reward.dtype)
    going_before = tf.concat([tf.zeros_like(going[:1]), going[:-1]], axis=0)

    first = batch.reward[:1] + config.gamma * running_return
    rewards = tf.concat([first, batch.reward[1:]], axis=0)
    returns = ops.recurrence(rewards, config.gamma * going_before)

    moments = ops.merge_stats(moments, tf.reshape(returns, (-1,)))
    scaled = tf.clip_by_value(batch.reward / tf.sqrt(moments.var + 1e-8), -10.0, 10.0)  # D11
    return scaled, returns[-1] * going[-1], moments


def advantages(batch: Rollout, reward: Array, next_value: Array, config: Config) -> Array:
    """Return generalized advantage estimates [T, N] of a rollout."""
    going_on = 1.0 - tf.cast(tf.logical_or(batch.terminated, batch.truncated), reward.dtype)
    not_terminated = 1.0 - tf.cast(batch.terminated, reward.dtype)
    keep = not_terminated if config.truncation == "bootstrap" else going_on  # D4
    return ops.gae(reward, batch.value, next_value, keep, going_on, config.gamma, config.gae_lambda)


def episode_begins(batch: RecurrentRollout) -> Array:
    """Return [T, N] bool: where an episode begins with the step, and the memory is zero."""
    ended = tf.logical_or(batch.terminated, batch.truncated)
    return tf.concat([batch.begins[None], ended[:-1]], axis=0)  # D16


def by_environment(rows: Minibatch, batch: RecurrentRollout) -> Sequences:
    """Return rows [T · N] of a rollout as the whole environments [N, T] of minibatches."""
    shape = batch.reward.shape
    columns = [_swap_leading(tf.reshape(x, (*shape, *x.shape[1:]))) for x in rows]
    begins = _swap_leading(episode_begins(batch))
    return Sequences(*columns, hidden=batch.hidden, begins=begins)


def remember(gru: Callable, sequences: Sequences) -> Minibatch:
    """Return sequences [n, T] as rows [n · T], whose observations are the memory's states."""
    obs, begins = _swap_leading(sequences.obs), _swap_leading(sequences.begins)
    states = _swap_leading(gru(obs, sequences.hidden, begins))
    columns = Minibatch(*sequences[: len(Minibatch._fields)])._replace(obs=states)
    return Minibatch(*(tf.reshape(x, (-1, *x.shape[2:])) for x in columns))


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make networks and optimizer for a spec, without weights."""
    settings = heads(spec, config.layers)
    networks: dict[str, Any] = {
        "actor": Policy("actor", *settings),
        "critic": Value("critic", *settings),
    }
    if config.recurrent:
        networks["memory"] = GRU("memory", spec, config.layers)  # D14
    return AgentDef(
        spec=spec,
        config=config,
        dtype=build.dtype,
        network_dtype=build.dtype,
        networks=networks,
        optimizers=make_optimizers(config, ops.make_optimizer, learning_rate),  # D7 D8
        layouts=plumbing.layouts_of(networks, data.NETWORKS),
        data=data,
    )


def act(
    agent: AgentDef, state: AgentState, obs: Array, noise: Array, memory: Memory | None = None
) -> Act | RecurrentAct:
    """Choose actions for obs [N, *obs] and noise [N, action_size]; zero noise is greedy."""
    obs = features(agent, state, tf.reshape(obs, (obs.shape[0], -1)))
    if memory is not None:
        hidden, begins = cast(memory, agent.dtype)
        obs = _gru(agent, state.params["actor_critic"])(obs[None], hidden, begins[None])[0]
    policy, value = _networks(agent, state.params["actor_critic"])
    distribution = policy(obs)
    raw = action = distribution.sample(cast(noise, agent.dtype))  # D1 D13
    if not agent.spec.discrete:  # D3
        low, high = (tf.constant(bound, agent.dtype) for bound in agent.spec.bounds)
        action = ops.rescale_action(raw, low, high)
    acted = Act(
        action=action,
        raw_action=raw,
        log_prob=distribution.log_prob(raw),
        value=value(obs),
    )
    return acted if memory is None else RecurrentAct(*acted, hidden=obs)


def prepare(
    agent: AgentDef, state: AgentState, batch: Rollout | RecurrentRollout
) -> tuple[AgentState, Minibatch | Sequences]:
    """Compute advantages and targets of a rollout as B flat rows; update the statistics."""
    config, statistics = agent.config, state.statistics
    batch = cast(batch, agent.dtype)
    reward = batch.reward
    num_rows = reward.shape.num_elements()
    if config.normalize_reward:
        reward, *new = scale_rewards(
            batch, statistics["running_return"], statistics["return_moments"], config
        )
        ops.assign([statistics["running_return"], statistics["return_moments"]], new)

    next_obs = features(agent, state, tf.reshape(batch.next_obs, (num_rows, -1)))
    if isinstance(batch, RecurrentRollout):
        next_obs = _next_states(agent, state, batch, next_obs)
    _, value = _networks(agent, state.params["actor_critic"])
    next_value = tf.reshape(value(next_obs), reward.shape)  # D2
    advantage = advantages(batch, reward, next_value, config)

    rows = Minibatch(
        obs=features(agent, state, tf.reshape(batch.obs, (num_rows, -1))),
        action=tf.reshape(batch.action, (num_rows, *batch.action.shape[2:])),
        log_prob=tf.reshape(batch.log_prob, (num_rows,)),
        value=tf.reshape(batch.value, (num_rows,)),
        advantage=tf.reshape(advantage, (num_rows,)),
        target=tf.reshape(advantage + batch.value, (num_rows,)),
    )
    if isinstance(batch, RecurrentRollout):
        rows = by_environment(rows, batch)
    state = update_statistics(agent, state, batch.obs)  # D10
    return state, rows


def gradients(
    agent: AgentDef, state: AgentState, minibatch: Minibatch | Sequences
) -> tuple[LossTerms, dict[str, Array]]:
    """Return terms and raw gradient of the loss."""

    def loss(flat: Array) -> LossTerms:
        policy, value = _networks(agent, flat)
        rows = minibatch
        if isinstance(minibatch, Sequences):
            rows = remember(_gru(agent, flat), minibatch)
        return ppo_loss(policy, value, rows, agent.config)

    return differentiate(loss, state, "actor_critic")


def update(
    agent: AgentDef, state: AgentState, minibatch: Minibatch | Sequences
) -> tuple[AgentState, Metrics]:
    """Take one gradient step."""
    terms, grads = gradients(agent, state, minibatch)
    state, norm = apply_gradients(agent, state, "actor_critic", grads)
    return state, Metrics(*terms, grad_norm=norm)


def step(
    agent: AgentDef, state: AgentState, batch: Rollout | RecurrentRollout, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Run one iteration: prepare the rollout, then update on every epoch's minibatches."""
    state, rows = prepare(agent, state, batch)

    def body(minibatch: Array) -> Array:
        _, metrics = update(agent, state, take(rows, minibatch))
        return tf.stack(metrics)

    indices = tf.reshape(noise.permutation, (agent.config.updates_per_iteration, -1))
    metrics = ops.scan(body, indices, len(Metrics._fields), agent.dtype)
    return state, Metrics(*tf.unstack(metrics))


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """Return the five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return plumbing.make_agent(agent, initial_weights, act, step)  # D12


def _networks(agent: AgentDef, flat: Array) -> tuple[Callable, Callable]:
    """Return policy and value function of features [B, …]."""
    params = cut(agent, "actor_critic", flat)
    return network(agent, params, "actor"), network(agent, params, "critic")


def _gru(agent: AgentDef, flat: Array) -> Callable:
    """Return the memory: features [T, B, …], hidden [B, H], begins [T, B] -> states [T, B, H]."""
    return network(agent, cut(agent, "actor_critic", flat), "memory")


def _next_states(
    agent: AgentDef, state: AgentState, batch: RecurrentRollout, next_obs: Array
) -> Array:
    """Return states [B, H] of the memory for features of next observations, before any reset."""
    gru = _gru(agent, state.params["actor_critic"])
    obs = features(agent, state, tf.reshape(batch.obs, (*batch.reward.shape, -1)))
    states = gru(obs, batch.hidden, episode_begins(batch))
    states = tf.reshape(states, (next_obs.shape[0], -1))
    nowhere = tf.zeros((1, states.shape[0]), tf.bool)
    return gru(next_obs[None], states, nowhere)[0]  # D16


def _swap_leading(x: Array) -> Array:
    """Swap the first two axes."""
    return tf.transpose(x, [1, 0, *range(2, len(x.shape))])
