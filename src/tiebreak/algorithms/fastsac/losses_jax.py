"""FastSAC's losses in JAX, written once over callables for all frameworks on it.

A policy maps obs [B, O] to a SquashedGaussian over actions [B, A], a critic obs and actions to
logits [B, K]. Symbols as in README.md.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from tiebreak.algorithms.fastsac.config import Config
from tiebreak.algorithms.fastsac.data import ActorTerms, AlphaTerms, CriticTerms, Noise, Target
from tiebreak.core.off_policy import Batch
from tiebreak.core.types import Array
from tiebreak.frameworks.jax import ops


def target_distributions(
    policy: Callable, critics: tuple, log_alpha: Array, batch: Batch, noise: Noise, config: Config
) -> Target:
    """Return the distributions that the critics are moved towards, each by its own target critic.

    The soft reward of the policy's action is part of the return: it shifts the atoms.
    """
    action, log_prob = policy(batch.next_obs).sample_log_prob(noise.next_action)  # D1
    probs1, probs2 = (jax.nn.softmax(critic(batch.next_obs, action)) for critic in critics)
    atoms = ops.atoms(*config.span, probs1)
    soft_value = atoms - (jnp.exp(log_alpha) * log_prob)[:, None]
    values = batch.reward[:, None] + batch.discount[:, None] * soft_value
    values = jnp.clip(values, *config.span)

    target = Target(
        first=ops.project_distribution(probs1, values, *config.span),  # D4
        second=ops.project_distribution(probs2, values, *config.span),
        entropy=-log_prob.mean(),
    )
    return jax.lax.stop_gradient(target)


def critic_loss(critics: tuple, batch: Batch, target: Target, config: Config) -> CriticTerms:
    """Sum both critics' cross-entropies, each to its own distribution."""
    logits1, logits2 = (critic(batch.obs, batch.action) for critic in critics)
    cross_entropy1 = -jnp.sum(target.first * jax.nn.log_softmax(logits1), axis=1).mean()
    cross_entropy2 = -jnp.sum(target.second * jax.nn.log_softmax(logits2), axis=1).mean()
    loss = cross_entropy1 + cross_entropy2  # D4

    atoms = ops.atoms(*config.span, target.first)
    q1 = jnp.sum(jax.nn.softmax(logits1) * atoms, axis=1)
    q2 = jnp.sum(jax.nn.softmax(logits2) * atoms, axis=1)
    target_value = jnp.sum(0.5 * (target.first + target.second) * atoms, axis=1)
    return CriticTerms(
        loss=loss,
        q1=q1.mean(),
        q2=q2.mean(),
        target=target_value.mean(),
        entropy=target.entropy,
    )


def alpha_loss(log_alpha: Array, entropy: Array, action_size: int, config: Config) -> AlphaTerms:
    """Return the temperature's loss: α rises while the entropy is below its target."""
    target_entropy = -config.target_entropy_scale * action_size
    alpha = jnp.exp(log_alpha)
    return AlphaTerms(loss=alpha * (entropy - target_entropy), alpha=alpha)  # D6


def actor_loss(
    policy: Callable, critics: tuple, log_alpha: Array, batch: Batch, noise: Noise, config: Config
) -> ActorTerms:
    """Return the mean of α·log π − Q over the policy's own actions; Q is both critics' mean."""
    action, log_prob = policy(batch.obs).sample_log_prob(noise.action)  # D1
    probs1, probs2 = (jax.nn.softmax(critic(batch.obs, action)) for critic in critics)
    atoms = ops.atoms(*config.span, probs1)
    q = jnp.sum(0.5 * (probs1 + probs2) * atoms, axis=1)  # D5
    return ActorTerms(loss=(jnp.exp(log_alpha) * log_prob - q).mean(), q=q.mean())
