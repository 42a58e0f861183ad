"""FastTD3's losses in JAX, written once over callables for Linen, NNX and Equinox.

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
    """What both critics are moved towards, by target critics; [B, K]."""
    smoothing = jnp.clip(config.target_noise * noise.target, -config.noise_clip, config.noise_clip)
    action = jnp.clip(policy(batch.next_obs) + smoothing, -1.0, 1.0)  # D2
    one, two = (jax.nn.softmax(critic(batch.next_obs, action)) for critic in critics)
    values = batch.reward[:, None] + batch.discount[:, None] * ops.atoms(*config.span, one)
    values = jnp.clip(values, *config.span)
    # Projecting keeps the mean: the smaller is known before, and only that one is projected.
    smaller = jnp.sum(one * values, axis=1) < jnp.sum(two * values, axis=1)  # D4
    probs = jnp.where(smaller[:, None], one, two)
    return jax.lax.stop_gradient(ops.project_distribution(probs, values, *config.span))  # D3


def critic_loss(critics: tuple, batch: Batch, target: Array, config: Config) -> CriticTerms:
    """The sum of both cross-entropies; target [B, K]."""
    one, two = (critic(batch.obs, batch.action) for critic in critics)
    loss = sum(-jnp.sum(target * jax.nn.log_softmax(q), axis=1).mean() for q in (one, two))  # D4
    atoms = ops.atoms(*config.span, target)
    q1, q2 = (jnp.sum(jax.nn.softmax(q) * atoms, axis=1).mean() for q in (one, two))
    return CriticTerms(loss, q1, q2, jnp.sum(target * atoms, axis=1).mean())


def actor_loss(policy: Callable, critics: tuple, batch: Batch, config: Config) -> ActorTerms:
    """What the policy's actions are worth to the critic that expects less of them, negated."""
    action = policy(batch.obs)
    one, two = (jax.nn.softmax(critic(batch.obs, action)) for critic in critics)
    atoms = ops.atoms(*config.span, one)
    q1, q2 = (jnp.sum(probs * atoms, axis=1) for probs in (one, two))
    return ActorTerms(-jnp.minimum(q1, q2).mean())  # D5
