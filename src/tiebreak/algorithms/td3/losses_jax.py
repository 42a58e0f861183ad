"""TD3's losses in JAX, written once over callables for all frameworks on it.

A policy maps obs [B, O] to actions [B, A], a critic obs and actions to Q [B]. Symbols as in
README.md.

Source: Fujimoto et al. 2018 (arXiv 1802.09477), algorithm 1; deviations are decisions in README.md.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from tiebreak.algorithms.td3.config import Config
from tiebreak.algorithms.td3.data import ActorTerms, Batch, CriticTerms
from tiebreak.core.types import Array


def td3_target(
    policy: Callable, critics: tuple[Callable, Callable], batch: Batch, noise: Array, config: Config
) -> Array:
    """Return the value [B] that both critics are moved towards, by target networks; noise [B, A].

    It is the reward plus the discounted smaller value of the target policy's smoothed action.
    """
    smoothing = jnp.clip(config.target_noise * noise, -config.noise_clip, config.noise_clip)
    action = jnp.clip(policy(batch.next_obs) + smoothing, -1.0, 1.0)  # D2

    q1, q2 = (critic(batch.next_obs, action) for critic in critics)
    return jax.lax.stop_gradient(batch.reward + batch.discount * jnp.minimum(q1, q2))


def critic_loss(critics: tuple[Callable, Callable], batch: Batch, target: Array) -> CriticTerms:
    """Sum both critics' mean squared errors; target [B]."""
    q1, q2 = (critic(batch.obs, batch.action) for critic in critics)
    loss = jnp.square(q1 - target).mean() + jnp.square(q2 - target).mean()  # D3
    return CriticTerms(loss=loss, q1=q1.mean(), q2=q2.mean(), target=target.mean())


def actor_loss(policy: Callable, critic: Callable, batch: Batch) -> ActorTerms:
    """Return the mean value of the policy's actions to the first critic, negated."""
    action = policy(batch.obs)
    q1 = critic(batch.obs, action)
    return ActorTerms(loss=-q1.mean())  # D4
