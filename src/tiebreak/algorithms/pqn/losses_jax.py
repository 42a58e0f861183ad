"""PQN's losses in JAX, written once over callables for all frameworks on it.

`q` maps obs [B, D] to action values [B, K]. Symbols as in README.md.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from tiebreak.algorithms.pqn.config import Config
from tiebreak.algorithms.pqn.data import LossTerms, Minibatch, Rollout
from tiebreak.core.types import Array
from tiebreak.frameworks.jax import ops


def lambda_returns(batch: Rollout, next_q: Array, config: Config) -> Array:
    """Return the λ-returns [T, N] of a rollout; next_q [T, N, K] are the values of next_obs."""
    next_value = next_q.max(axis=-1)
    ended = jnp.logical_or(batch.terminated, batch.truncated)
    going_on = 1.0 - ended.astype(next_value.dtype)
    not_terminated = 1.0 - batch.terminated.astype(next_value.dtype)
    keep = not_terminated if config.truncation == "bootstrap" else going_on  # D3

    # What follows the rollout's last step is not known: there the value counts whole.
    known = jnp.concatenate([going_on[:-1], jnp.zeros_like(going_on[-1:])])
    trace = config.q_lambda * known
    reward = config.reward_scale * batch.reward  # D9
    one_step = reward + config.gamma * (keep - trace) * next_value
    return ops.recurrence(one_step, config.gamma * trace, reverse=True)  # D2


def pqn_loss(q: Callable, minibatch: Minibatch) -> LossTerms:
    """Return half the mean squared distance from the λ-returns."""
    taken = jnp.take_along_axis(q(minibatch.obs), minibatch.action[:, None], axis=-1)[:, 0]
    loss = 0.5 * jnp.square(taken - minibatch.target).mean()  # D4
    return LossTerms(loss=loss, q=taken.mean(), target=minibatch.target.mean())


def learning_rate(config: Config, count: Array) -> Array | float:
    """Return the step size after `count` updates."""
    if not config.anneal_lr:
        return config.learning_rate
    remaining = 1.0 - count / float(config.num_iterations * config.updates_per_iteration)
    return config.learning_rate * jnp.maximum(0.0, remaining)  # D6


def epsilon(config: Config, count: Array) -> Array:
    """Return the share of random actions after `count` updates; constant within an iteration."""
    iteration = count // config.updates_per_iteration
    decay = jnp.maximum(1.0, config.exploration_fraction * config.num_iterations)
    progress = jnp.minimum(1.0, iteration / decay)
    return config.epsilon_start + (config.epsilon_end - config.epsilon_start) * progress  # D1
