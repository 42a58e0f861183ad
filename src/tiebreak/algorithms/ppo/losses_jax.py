"""PPO's losses in JAX, written once over callables for all frameworks on it.

`policy` maps obs [B, D] to a distribution, `value` maps obs to [B], `gru` maps obs [T, n, D], the
memory [n, H] and its resets [T, n] to states [T, n, H]. Symbols as in README.md.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from tiebreak.algorithms.ppo.config import Config
from tiebreak.algorithms.ppo.data import (
    LossTerms,
    Minibatch,
    RecurrentRollout,
    Rollout,
    Sequences,
)
from tiebreak.core.types import Array, RunningStats
from tiebreak.frameworks.jax import ops


def policy_loss(ratio: Array, advantage: Array, config: Config) -> Array:
    """Return the clipped surrogate (Schulman et al. 2017, eq. 7), negated; [B], [B] -> scalar.

    With `drift` "dpo", it is the plain surrogate less a drift.
    """
    if config.normalize_advantage:
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)  # D5
    if config.drift == "dpo":
        return (dpo_drift(ratio, advantage, config) - advantage * ratio).mean()  # D15
    clipped = jnp.clip(ratio, 1.0 - config.clip, 1.0 + config.clip)
    return jnp.maximum(-advantage * ratio, -advantage * clipped).mean()


def dpo_drift(ratio: Array, advantage: Array, config: Config) -> Array:
    """Return the drift that DPO discovered (Lu et al. 2022, section 5); [B], [B] -> [B]."""
    better = (ratio - 1.0) * advantage
    worse = jnp.log(ratio) * advantage
    if_better = jax.nn.relu(better - config.dpo_alpha * jnp.tanh(better / config.dpo_alpha))
    if_worse = jax.nn.relu(worse - config.dpo_beta * jnp.tanh(worse / config.dpo_beta))
    return jnp.where(advantage >= 0.0, if_better, if_worse)


def value_loss(value: Array, old_value: Array, target: Array, config: Config) -> Array:
    """Return half the mean squared error, pessimistically clipped; [B], [B], [B] -> scalar."""
    error = jnp.square(value - target)
    if config.clip_value:  # D6
        moved = old_value + jnp.clip(value - old_value, -config.clip, config.clip)
        error = jnp.maximum(error, jnp.square(moved - target))
    return 0.5 * error.mean()


def ppo_loss(policy: Callable, value: Callable, minibatch: Minibatch, config: Config) -> LossTerms:
    """Return all terms of the loss on one minibatch."""
    distribution = policy(minibatch.obs)
    log_ratio = distribution.log_prob(minibatch.action) - minibatch.log_prob
    ratio = jnp.exp(log_ratio)

    entropy = distribution.entropy().mean()
    actor = policy_loss(ratio, minibatch.advantage, config)
    critic = value_loss(value(minibatch.obs), minibatch.value, minibatch.target, config)
    loss = actor + config.value_coef * critic - config.entropy_coef * entropy

    is_clipped = jnp.abs(ratio - 1.0) > config.clip
    return LossTerms(
        loss=loss,
        policy_loss=actor,
        value_loss=critic,
        entropy=entropy,
        approx_kl=(ratio - 1.0 - log_ratio).mean(),
        clip_fraction=is_clipped.astype(ratio.dtype).mean(),
    )


def learning_rate(config: Config, count: Array) -> Array | float:
    """Return the step size after `count` updates; it is constant within an iteration."""
    if not config.anneal_lr:
        return config.learning_rate
    iteration = count // config.updates_per_iteration
    remaining = 1.0 - iteration / float(config.num_iterations)
    return config.learning_rate * jnp.maximum(0.0, remaining)  # D9


def scale_rewards(
    batch: Rollout, running_return: Array, moments: RunningStats, config: Config
) -> tuple[Array, Array, RunningStats]:
    """Divide rewards [T, N] by the std of the discounted return.

    Returns the scaled rewards, the running return [N] after the last step and the new statistics.
    """
    ended = jnp.logical_or(batch.terminated, batch.truncated)
    going_on = 1.0 - ended.astype(batch.reward.dtype)

    # The first step continues the return of the rollout before; an end starts from zero.
    first = batch.reward[:1] + config.gamma * running_return
    rewards = jnp.concatenate([first, batch.reward[1:]])
    went_on_before = jnp.concatenate([jnp.zeros_like(going_on[:1]), going_on[:-1]])
    returns = ops.recurrence(rewards, config.gamma * went_on_before)

    moments = ops.merge_stats(moments, returns.reshape(-1))
    scaled = jnp.clip(batch.reward / jnp.sqrt(moments.var + 1e-8), -10.0, 10.0)  # D11
    return scaled, returns[-1] * going_on[-1], moments


def advantages(batch: Rollout, reward: Array, next_value: Array, config: Config) -> Array:
    """Return generalized advantage estimates [T, N] of a rollout."""
    ended = jnp.logical_or(batch.terminated, batch.truncated)
    going_on = 1.0 - ended.astype(reward.dtype)
    not_terminated = 1.0 - batch.terminated.astype(reward.dtype)
    keep = not_terminated if config.truncation == "bootstrap" else going_on  # D4
    return ops.gae(reward, batch.value, next_value, keep, going_on, config.gamma, config.gae_lambda)


def episode_begins(batch: RecurrentRollout) -> Array:
    """Return [T, N] bool: where an episode begins with the step, and the memory is zero."""
    ended = jnp.logical_or(batch.terminated, batch.truncated)
    return jnp.concatenate([batch.begins[None], ended[:-1]])  # D16


def by_environment(rows: Minibatch, batch: RecurrentRollout) -> Sequences:
    """Return rows [T · N] of a rollout as the whole environments [N, T] of minibatches."""
    shape = batch.reward.shape
    columns = [x.reshape(*shape, *x.shape[1:]).swapaxes(0, 1) for x in rows]
    begins = episode_begins(batch).swapaxes(0, 1)
    return Sequences(*columns, hidden=batch.hidden, begins=begins)


def remember(gru: Callable, sequences: Sequences) -> Minibatch:
    """Return sequences [n, T] as rows [n · T], whose observations are the memory's states."""
    obs, begins = sequences.obs.swapaxes(0, 1), sequences.begins.swapaxes(0, 1)
    states = gru(obs, sequences.hidden, begins).swapaxes(0, 1)
    columns = Minibatch(*sequences[: len(Minibatch._fields)])._replace(obs=states)
    return Minibatch(*(x.reshape(-1, *x.shape[2:]) for x in columns))
