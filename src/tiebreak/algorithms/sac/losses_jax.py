"""SAC's losses in JAX, written once over callables for all frameworks on it.

`policy` maps obs [B, O] to a SquashedGaussian over actions [B, A]; `critics` and `targets` are
pairs of functions of obs and action, to values [B]. Symbols as in README.md.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from tiebreak.algorithms.sac.config import Config
from tiebreak.algorithms.sac.data import ActorTerms, AlphaTerms, Batch, CriticTerms, Noise
from tiebreak.core.types import Array


def critic_target(
    policy: Callable, targets: tuple, log_alpha: Array, batch: Batch, noise: Noise
) -> Array:
    """Return the soft value [B] that both critics are moved towards, by target critics."""
    action, log_prob = policy(batch.next_obs).sample_log_prob(noise.next_action)  # D1
    q1, q2 = (q(batch.next_obs, action) for q in targets)
    soft_value = jnp.minimum(q1, q2) - jnp.exp(log_alpha) * log_prob  # D4 D6
    return jax.lax.stop_gradient(batch.reward + batch.discount * soft_value)


def critic_loss(critics: tuple, batch: Batch, target: Array) -> CriticTerms:
    """Sum both critics' mean squared temporal-difference errors; target [B]."""
    q1, q2 = (q(batch.obs, batch.action) for q in critics)
    loss = jnp.square(q1 - target).mean() + jnp.square(q2 - target).mean()  # D4
    return CriticTerms(loss=loss, q1=q1.mean(), q2=q2.mean(), target=target.mean())


def actor_loss(
    policy: Callable, critics: tuple, log_alpha: Array, batch: Batch, noise: Noise
) -> ActorTerms:
    """Return the mean of α·log π − Q over the policy's own actions: minus the soft value."""
    action, log_prob = policy(batch.obs).sample_log_prob(noise.action)  # D1
    q1, q2 = (q(batch.obs, action) for q in critics)
    q = jnp.minimum(q1, q2)  # D5
    loss = (jnp.exp(log_alpha) * log_prob - q).mean()  # D6
    return ActorTerms(loss=loss, q=q.mean(), entropy=-log_prob.mean())


def alpha_loss(
    policy: Callable, log_alpha: Array, batch: Batch, noise: Noise, config: Config
) -> AlphaTerms:
    """Return the temperature's loss: α rises while the entropy is below its target."""
    _, log_prob = policy(batch.obs).sample_log_prob(noise.action)
    target_entropy = -config.target_entropy_scale * noise.action.shape[-1]  # D6
    deficit = jax.lax.stop_gradient(log_prob.mean() + target_entropy)
    return AlphaTerms(loss=-log_alpha * deficit, alpha=jnp.exp(log_alpha))  # D6
