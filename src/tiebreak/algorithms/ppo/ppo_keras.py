"""PPO in Keras; README.md is the spec."""

# Keras's functions have no annotations, and pyright infers that symbolic calls return None.
# pyright: reportOptionalOperand=false, reportOptionalSubscript=false
# pyright: reportOptionalIterable=false, reportOptionalMemberAccess=false

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras

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
from tiebreak.frameworks.keras import agent as plumbing
from tiebreak.frameworks.keras import ops
from tiebreak.frameworks.keras.agent import (
    AgentDef,
    AgentState,
    apply_gradients,
    cast,
    differentiate,
    features,
    take,
    update_statistics,
    widest,
)
from tiebreak.frameworks.keras.networks import GRU, Policy, Value


def policy_loss(ratio: Array, advantage: Array, config: Config) -> Array:
    """Return the clipped surrogate (Schulman et al. 2017, eq. 7), negated; [B], [B] -> scalar.

    With `drift` "dpo", it is the plain surrogate less a drift.
    """
    if config.normalize_advantage:
        mean, std = keras.ops.mean(advantage), keras.ops.std(advantage)
        advantage = (advantage - mean) / (std + 1e-8)  # D5
    if config.drift == "dpo":
        drift = dpo_drift(ratio, advantage, config)
        return keras.ops.mean(drift - advantage * ratio)  # D15
    clipped = ops.clip(ratio, 1.0 - config.clip, 1.0 + config.clip)
    return keras.ops.mean(keras.ops.maximum(-advantage * ratio, -advantage * clipped))


def dpo_drift(ratio: Array, advantage: Array, config: Config) -> Array:
    """Return the drift that DPO discovered (Lu et al. 2022, section 5); [B], [B] -> [B]."""
    better = (ratio - 1.0) * advantage
    worse = keras.ops.log(ratio) * advantage
    bounded_better = config.dpo_alpha * keras.ops.tanh(better / config.dpo_alpha)
    bounded_worse = config.dpo_beta * keras.ops.tanh(worse / config.dpo_beta)
    if_better = keras.ops.relu(better - bounded_better)
    if_worse = keras.ops.relu(worse - bounded_worse)
    return keras.ops.where(advantage >= 0.0, if_better, if_worse)


def value_loss(value: Array, old_value: Array, target: Array, config: Config) -> Array:
    """Return half the mean squared error, pessimistically clipped; [B], [B], [B] -> scalar."""
    error = keras.ops.square(value - target)
    if config.clip_value:  # D6
        moved = old_value + ops.clip(value - old_value, -config.clip, config.clip)
        error = keras.ops.maximum(error, keras.ops.square(moved - target))
    return 0.5 * keras.ops.mean(error)


def ppo_loss(policy: Callable, value: Callable, minibatch: Minibatch, config: Config) -> LossTerms:
    """Return all terms of the loss on one minibatch."""
    distribution = policy(minibatch.obs)
    log_ratio = distribution.log_prob(minibatch.action) - minibatch.log_prob
    ratio = keras.ops.exp(log_ratio)

    entropy = keras.ops.mean(distribution.entropy())
    actor = policy_loss(ratio, minibatch.advantage, config)
    critic = value_loss(value(minibatch.obs), minibatch.value, minibatch.target, config)
    is_clipped = keras.ops.abs(ratio - 1.0) > config.clip
    return LossTerms(
        loss=actor + config.value_coef * critic - config.entropy_coef * entropy,
        policy_loss=actor,
        value_loss=critic,
        entropy=entropy,
        approx_kl=keras.ops.mean(ratio - 1.0 - log_ratio),
        clip_fraction=keras.ops.mean(keras.ops.cast(is_clipped, ratio.dtype)),
    )


def learning_rate(config: Config, count: Array) -> Array | float:
    """Return the step size after `count` updates; it is constant within an iteration."""
    if not config.anneal_lr:
        return config.learning_rate
    iteration = widest(count // config.updates_per_iteration)
    remaining = 1.0 - iteration / config.num_iterations
    return config.learning_rate * keras.ops.maximum(remaining, 0.0)  # D9


def scale_rewards(
    batch: Rollout, running_return: Array, moments: RunningStats, config: Config
) -> tuple[Array, Array, RunningStats]:
    """Divide rewards [T, N] by the std of the discounted return.

    Returns the scaled rewards, the running return [N] after the last step and the new statistics.
    """
    ended = keras.ops.logical_or(batch.terminated, batch.truncated)
    going_on = 1.0 - keras.ops.cast(ended, batch.reward.dtype)

    # The first step continues the return of the rollout before; an end starts from zero.
    first = batch.reward[:1] + config.gamma * running_return
    rewards = keras.ops.concatenate([first, batch.reward[1:]])
    went_on_before = keras.ops.concatenate([keras.ops.zeros_like(going_on[:1]), going_on[:-1]])
    returns = ops.recurrence(rewards, config.gamma * went_on_before)

    moments = ops.merge_stats(moments, keras.ops.reshape(returns, (-1,)))
    scaled = ops.clip(batch.reward / keras.ops.sqrt(moments.var + 1e-8), -10.0, 10.0)  # D11
    return scaled, returns[-1] * going_on[-1], moments


def advantages(batch: Rollout, reward: Array, next_value: Array, config: Config) -> Array:
    """Return generalized advantage estimates [T, N] of a rollout."""
    ended = keras.ops.logical_or(batch.terminated, batch.truncated)
    going_on = 1.0 - keras.ops.cast(ended, reward.dtype)
    not_terminated = 1.0 - keras.ops.cast(batch.terminated, reward.dtype)
    keep = not_terminated if config.truncation == "bootstrap" else going_on  # D4
    return ops.gae(reward, batch.value, next_value, keep, going_on, config.gamma, config.gae_lambda)


def episode_begins(batch: RecurrentRollout) -> Array:
    """Return [T, N] bool: where an episode begins with the step, and the memory is zero."""
    ended = keras.ops.logical_or(batch.terminated, batch.truncated)
    return keras.ops.concatenate([batch.begins[None], ended[:-1]])  # D16


def by_environment(rows: Minibatch, batch: RecurrentRollout) -> Sequences:
    """Return rows [T · N] of a rollout as the whole environments [N, T] of minibatches."""
    shape = tuple(batch.reward.shape)
    columns = [_swap_leading(keras.ops.reshape(x, (*shape, *x.shape[1:]))) for x in rows]
    begins = _swap_leading(episode_begins(batch))
    return Sequences(*columns, hidden=batch.hidden, begins=begins)


def remember(gru: Callable, sequences: Sequences) -> Minibatch:
    """Return sequences [n, T] as rows [n · T], whose observations are the memory's states."""
    obs, begins = _swap_leading(sequences.obs), _swap_leading(sequences.begins)
    states = _swap_leading(gru(obs, sequences.hidden, begins))
    columns = Minibatch(*sequences[: len(Minibatch._fields)])._replace(obs=states)
    return Minibatch(*(keras.ops.reshape(x, (-1, *x.shape[2:])) for x in columns))


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make networks and optimizer for a spec, without weights; compile preparing and updates."""
    settings = (*heads(spec, config.layers), build.dtype)
    networks: dict[str, Any] = {"actor": Policy(*settings), "critic": Value(*settings)}
    if config.recurrent:
        networks["memory"] = GRU(spec, config.layers, build.dtype)  # D14
    return plumbing.define(
        spec,
        config,
        build,
        data,
        networks=networks,
        optimizers=make_optimizers(config, ops.make_optimizer, learning_rate),  # D7 D8
        compiled={"prepare": prepare, "update": _update_rows},
    )


def act(
    agent: AgentDef, state: AgentState, obs: Array, noise: Array, memory: Memory | None = None
) -> Act | RecurrentAct:
    """Choose actions for obs [N, *obs] and noise [N, action_size]; zero noise is greedy."""
    policy, value = _networks(agent, state.params["actor_critic"])
    obs = features(agent, state, keras.ops.reshape(obs, (obs.shape[0], -1)))
    if memory is not None:
        hidden, begins = cast(memory, agent.dtype)
        obs = _gru(agent, state.params["actor_critic"])(obs[None], hidden, begins[None])[0]
    distribution = policy(obs)
    raw_action = action = distribution.sample(keras.ops.cast(noise, agent.dtype))  # D1 D13
    if not agent.spec.discrete:  # D3
        low, high = plumbing.action_bounds(agent)
        action = ops.rescale_action(raw_action, low, high)
    acted = Act(
        action=action,
        raw_action=raw_action,
        log_prob=distribution.log_prob(raw_action),
        value=value(obs),
    )
    return acted if memory is None else RecurrentAct(*acted, hidden=obs)


def prepare(
    agent: AgentDef, state: AgentState, batch: Rollout | RecurrentRollout
) -> tuple[AgentState, Minibatch | Sequences]:
    """Return advantages and targets of a rollout as rows or, with a memory, as sequences."""
    batch = cast(batch, agent.dtype)
    state, reward = _scale_rewards(agent, state, batch)

    _, value = _networks(agent, state.params["actor_critic"])
    shape = tuple(batch.reward.shape)
    num_rows = math.prod(shape)
    next_obs = features(agent, state, keras.ops.reshape(batch.next_obs, (num_rows, -1)))
    if isinstance(batch, RecurrentRollout):
        next_obs = _next_states(agent, state, batch, next_obs)
    next_value = keras.ops.reshape(value(next_obs), shape)  # D2
    advantage = advantages(batch, reward, next_value, agent.config)

    obs = keras.ops.reshape(batch.obs, (num_rows, -1))
    rows = Minibatch(
        obs=features(agent, state, obs),
        action=keras.ops.reshape(batch.action, (num_rows, *batch.action.shape[2:])),
        log_prob=keras.ops.reshape(batch.log_prob, (num_rows,)),
        value=keras.ops.reshape(batch.value, (num_rows,)),
        advantage=keras.ops.reshape(advantage, (num_rows,)),
        target=keras.ops.reshape(advantage + batch.value, (num_rows,)),
    )
    if isinstance(batch, RecurrentRollout):
        rows = by_environment(rows, batch)
    return update_statistics(agent, state, obs), rows  # D10


def gradients(
    agent: AgentDef, state: AgentState, minibatch: Minibatch | Sequences
) -> tuple[LossTerms, dict[str, Any]]:
    """Return terms and raw gradient of the loss."""

    def loss(params: Mapping[str, Any]) -> LossTerms:
        policy, value = _networks(agent, params)
        rows = minibatch
        if isinstance(minibatch, Sequences):
            rows = remember(_gru(agent, params), minibatch)
        return ppo_loss(policy, value, rows, agent.config)

    terms, grads = differentiate(loss, state.params["actor_critic"])
    return terms, {"actor_critic": grads}


def update(
    agent: AgentDef, state: AgentState, minibatch: Minibatch | Sequences
) -> tuple[AgentState, Metrics]:
    """Make one gradient step."""
    terms, grads = gradients(agent, state, minibatch)
    state, norm = apply_gradients(agent, state, "actor_critic", grads)
    return state, Metrics(*terms, grad_norm=norm)


def step(
    agent: AgentDef, state: AgentState, batch: Rollout | RecurrentRollout, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Prepare a rollout, then run an update on each minibatch of every epoch."""
    state, rows = agent.compiled["prepare"](agent, state, batch)
    updates = agent.config.updates_per_iteration
    indices = keras.ops.reshape(noise.permutation, (updates, -1))

    def body(state: AgentState, i: Array) -> tuple[AgentState, Array]:
        return agent.compiled["update"](agent, state, rows, indices, i)

    state, metrics = ops.scan(body, state, updates, len(Metrics._fields), agent.dtype)
    return state, Metrics(*keras.ops.unstack(metrics))


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """Return the five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return plumbing.make_agent(agent, initial_weights, act, step)  # D12


def _update_rows(
    agent: AgentDef, state: AgentState, rows: Minibatch | Sequences, indices: Array, i: Array
) -> tuple[AgentState, Array]:
    """Make the update of minibatch `i`; return its metrics as a vector."""
    minibatch = take(rows, keras.ops.take(indices, i, axis=0))
    state, metrics = update(agent, state, minibatch)
    return state, keras.ops.stack(list(metrics))


def _networks(agent: AgentDef, params: Mapping[str, Any]) -> tuple[Callable, Callable]:
    """Return the policy: features -> distribution of actions, and the value: features -> [B]."""
    policy = plumbing.network(agent, params, "actor")
    value = plumbing.network(agent, params, "critic")
    return policy, value


def _gru(agent: AgentDef, params: Mapping[str, Any]) -> Callable:
    """Return the memory: features [T, B, …], hidden [B, H], begins [T, B] -> states [T, B, H]."""
    return plumbing.network(agent, params, "memory")


def _next_states(
    agent: AgentDef, state: AgentState, batch: RecurrentRollout, next_obs: Array
) -> Array:
    """Return states [B, H] of the memory for features of next observations, before any reset."""
    gru = _gru(agent, state.params["actor_critic"])
    obs = keras.ops.reshape(batch.obs, (*batch.reward.shape, -1))
    states = gru(features(agent, state, obs), batch.hidden, episode_begins(batch))
    states = keras.ops.reshape(states, (next_obs.shape[0], -1))
    nowhere = keras.ops.zeros((1, states.shape[0]), "bool")
    return gru(next_obs[None], states, nowhere)[0]  # D16


def _swap_leading(x: Array) -> Array:
    """Swap the first two axes."""
    return keras.ops.swapaxes(x, 0, 1)


def _scale_rewards(agent: AgentDef, state: AgentState, batch: Rollout) -> tuple[AgentState, Array]:
    """Return the rewards [T, N], scaled if configured; statistics of returns take them in."""
    if not agent.config.normalize_reward:
        return state, batch.reward
    statistics = state.statistics
    reward, running_return, return_moments = scale_rewards(
        batch, statistics["running_return"], statistics["return_moments"], agent.config
    )
    changes = {"running_return": running_return, "return_moments": return_moments}
    return state._replace(statistics={**statistics, **changes}), reward
