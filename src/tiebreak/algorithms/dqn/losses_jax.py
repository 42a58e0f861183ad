"""DQN's losses in JAX, written once over callables for Linen, NNX and Equinox.

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
    """What Q is moved towards; [B]."""
    next_q = target_q(batch.next_obs)
    best = jnp.argmax(q(batch.next_obs) if config.double_q else next_q, axis=-1)  # D3
    next_value = jnp.take_along_axis(next_q, best[:, None], axis=-1)[:, 0]
    return jax.lax.stop_gradient(batch.reward + batch.discount * next_value)


def dqn_loss(q: Callable, batch: Batch, target: Array) -> LossTerms:
    """Mean squared temporal-difference error (D2); target [B]."""
    taken = jnp.take_along_axis(q(batch.obs), batch.action[:, None], axis=-1)[:, 0]
    loss = jnp.square(taken - target).mean()  # D2
    return LossTerms(loss, taken.mean(), target.mean())


def epsilon(config: Config, count: Array) -> Array:
    """The share of random actions after `count` updates (D1)."""
    steps = config.learning_starts + count * (config.round_steps / config.num_updates)
    done = jnp.minimum(1.0, steps / (config.exploration_fraction * config.total_steps))
    return config.epsilon_start + (config.epsilon_end - config.epsilon_start) * done  # D1
