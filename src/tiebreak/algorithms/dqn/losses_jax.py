"""DQN's losses in JAX, written once over callables for all frameworks on it.

`q` and `target_q` map obs [B, D] to action values [B, K]. Symbols as in README.md.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from tiebreak.algorithms.dqn.config import Config
from tiebreak.algorithms.dqn.data import Batch, LossTerms
from tiebreak.core.types import Array


def dqn_target(q: Callable, target_q: Callable, batch: Batch, config: Config) -> Array:
    """Return the value [B] that Q is moved towards, by the target network.

    It is the reward plus the discounted value of the best next action.
    """
    next_q = target_q(batch.next_obs)
    choosing_q = q(batch.next_obs) if config.double_q else next_q  # D3
    best = jnp.argmax(choosing_q, axis=-1)
    next_value = jnp.take_along_axis(next_q, best[:, None], axis=-1)[:, 0]
    return jax.lax.stop_gradient(batch.reward + batch.discount * next_value)


def dqn_loss(q: Callable, batch: Batch, target: Array) -> LossTerms:
    """Return the mean squared temporal-difference error (D2); target [B]."""
    taken = jnp.take_along_axis(q(batch.obs), batch.action[:, None], axis=-1)[:, 0]
    loss = jnp.square(taken - target).mean()  # D2
    return LossTerms(loss=loss, q=taken.mean(), target=target.mean())


def epsilon(config: Config, count: Array) -> Array:
    """Return the share of random actions after `count` updates (D1)."""
    steps = config.learning_starts + count * (config.round_steps / config.num_updates)
    decay_steps = config.exploration_fraction * config.total_steps
    progress = jnp.minimum(1.0, steps / decay_steps)
    return config.epsilon_start + (config.epsilon_end - config.epsilon_start) * progress  # D1
