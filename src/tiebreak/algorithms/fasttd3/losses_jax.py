"""FastTD3's losses in JAX, written once over callables for all frameworks on it.

A policy maps obs [B, O] to actions [B, A], a critic obs and actions to logits [B, K]. Symbols as
in README.md.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from tiebreak.algorithms.fasttd3.config import Config
from tiebreak.algorithms.fasttd3.data import ActorTerms, CriticTerms, Noise
from tiebreak.core.off_policy import Batch
from tiebreak.core.types import Array
from tiebreak.frameworks.jax import ops


def target_distribution(
    policy: Callable, critics: tuple, batch: Batch, noise: Noise, config: Config
) -> Array:
    """Return the distribution [B, K] that both critics are moved towards, by target critics.

    It is the one with the smaller mean of those of the policy's smoothed action.
    """
    smoothing = jnp.clip(config.target_noise * noise.target, -config.noise_clip, config.noise_clip)
    action = jnp.clip(policy(batch.next_obs) + smoothing, -1.0, 1.0)  # D2

    probs1, probs2 = (jax.nn.softmax(critic(batch.next_obs, action)) for critic in critics)
    atoms = ops.atoms(*config.span, probs1)
    values = batch.reward[:, None] + batch.discount[:, None] * atoms
    values = jnp.clip(values, *config.span)

    # The projection keeps the mean: choose the smaller one before, and project that one only.
    first_is_smaller = jnp.sum(probs1 * values, axis=1) < jnp.sum(probs2 * values, axis=1)  # D4
    probs = jnp.where(first_is_smaller[:, None], probs1, probs2)
    return jax.lax.stop_gradient(ops.project_distribution(probs, values, *config.span))  # D3


def critic_loss(critics: tuple, batch: Batch, target: Array, config: Config) -> CriticTerms:
    """Sum both critics' cross-entropies; target [B, K]."""
    logits1, logits2 = (critic(batch.obs, batch.action) for critic in critics)
    cross_entropy1 = -jnp.sum(target * jax.nn.log_softmax(logits1), axis=1).mean()
    cross_entropy2 = -jnp.sum(target * jax.nn.log_softmax(logits2), axis=1).mean()
    loss = cross_entropy1 + cross_entropy2  # D4

    atoms = ops.atoms(*config.span, target)
    q1 = jnp.sum(jax.nn.softmax(logits1) * atoms, axis=1)
    q2 = jnp.sum(jax.nn.softmax(logits2) * atoms, axis=1)
    target_value = jnp.sum(target * atoms, axis=1)
    return CriticTerms(loss=loss, q1=q1.mean(), q2=q2.mean(), target=target_value.mean())


def actor_loss(policy: Callable, critics: tuple, batch: Batch, config: Config) -> ActorTerms:
    """Return the mean of the smaller value of the policy's actions, negated."""
    action = policy(batch.obs)
    probs1, probs2 = (jax.nn.softmax(critic(batch.obs, action)) for critic in critics)
    atoms = ops.atoms(*config.span, probs1)
    q1 = jnp.sum(probs1 * atoms, axis=1)
    q2 = jnp.sum(probs2 * atoms, axis=1)
    return ActorTerms(loss=-jnp.minimum(q1, q2).mean())  # D5
