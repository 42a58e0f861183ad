"""Returns and lengths of episodes, inside a fused program."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from tiebreak.core.types import Array
from tiebreak.frameworks.jax.ops import recurrence


def episodes(carry: Any, reward: Array, ended: Array) -> tuple[Any, tuple[Array, Array, Array]]:
    """reward, ended [T, N] -> the carry, whose `episode_return` and `episode_length` have moved
    on, and number, return sum and length sum of the episodes that ended.
    """
    over = ended.astype(jnp.float32)
    going = jnp.concatenate([jnp.ones_like(over[:1]), 1.0 - over[:-1]])

    def running(per_step, before):
        per_step = per_step.at[0].add(before)
        return recurrence(per_step, going.at[0].set(0.0))

    returns = running(reward.astype(jnp.float32), carry.episode_return)
    lengths = running(jnp.ones_like(over), carry.episode_length)
    rest = 1.0 - over[-1]
    carry = carry._replace(episode_return=returns[-1] * rest, episode_length=lengths[-1] * rest)
    return carry, (over.sum(), (returns * over).sum(), (lengths * over).sum())
