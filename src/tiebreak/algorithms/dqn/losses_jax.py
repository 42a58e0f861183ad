"""DQN's losses in JAX, written once over callables for all frameworks on it.

`q` and `target_q` map obs [B, D] to action values [B, A], or to logits [B, A, K] of K possible
returns. Symbols as in README.md.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from tiebreak.algorithms.dqn.config import Config
from tiebreak.algorithms.dqn.data import Batch, LossTerms
from tiebreak.core.types import Array
from tiebreak.frameworks.jax import ops


def expected_values(outputs: Array, config: Config) -> Array:
    """Return action values [B, A]: a network's outputs, or the means of its distributions."""
    if config.num_atoms == 1:
        return outputs
    return jnp.sum(jax.nn.softmax(outputs) * ops.atoms(*config.span, outputs), axis=-1)  # D8


def dqn_target(q: Callable, target_q: Callable, batch: Batch, config: Config) -> Array:
    """Return the value [B], or distribution [B, K], that Q is moved towards by the target network.

    It is the reward plus the discounted value of the best next action.
    """
    next_q = target_q(batch.next_obs)
    choosing_q = q(batch.next_obs) if config.double_q else next_q  # D3
    best = jnp.argmax(expected_values(choosing_q, config), axis=-1)
    if config.num_atoms > 1:
        logits = jnp.take_along_axis(next_q, best[:, None, None], axis=1)[:, 0]
        return jax.lax.stop_gradient(shifted_distribution(logits, batch, config))  # D8
    next_value = jnp.take_along_axis(next_q, best[:, None], axis=-1)[:, 0]
    return jax.lax.stop_gradient(batch.reward + batch.discount * next_value)


def shifted_distribution(logits: Array, batch: Batch, config: Config) -> Array:
    """Return the distribution of reward plus discounted return, on the atoms; logits [B, K]."""
    probs = jax.nn.softmax(logits)
    values = batch.discount[:, None] * ops.atoms(*config.span, probs)
    values = jnp.clip(batch.reward[:, None] + values, *config.span)
    return ops.project_distribution(probs, values, *config.span)


def dqn_loss(q: Callable, batch: Batch, target: Array, config: Config) -> LossTerms:
    """Return the mean squared temporal-difference error; target [B].

    Of distributions, the mean cross-entropy; target [B, K].
    """
    if config.num_atoms > 1:
        logits = jnp.take_along_axis(q(batch.obs), batch.action[:, None, None], axis=1)[:, 0]
        return distribution_loss(logits, target, config)  # D8
    taken = jnp.take_along_axis(q(batch.obs), batch.action[:, None], axis=-1)[:, 0]
    loss = jnp.square(taken - target).mean()  # D2
    return LossTerms(loss=loss, q=taken.mean(), target=target.mean())


def distribution_loss(logits: Array, target: Array, config: Config) -> LossTerms:
    """Return the mean cross-entropy of the taken actions' logits [B, K]; target [B, K]."""
    cross_entropy = -jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)
    target_value = jnp.sum(target * ops.atoms(*config.span, target), axis=-1)
    q = expected_values(logits, config)
    return LossTerms(loss=cross_entropy.mean(), q=q.mean(), target=target_value.mean())


def epsilon(config: Config, count: Array) -> Array:
    """Return the share of random actions after `count` updates (D1)."""
    steps = config.learning_starts + count * (config.round_steps / config.num_updates)
    decay_steps = config.exploration_fraction * config.total_steps
    progress = jnp.minimum(1.0, steps / decay_steps)
    return config.epsilon_start + (config.epsilon_end - config.epsilon_start) * progress  # D1
