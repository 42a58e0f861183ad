"""SAC's losses in JAX, written once over callables for all frameworks on it.

`policy` maps obs [B, O] to a SquashedGaussian over actions [B, A]; `critics` and `targets` are
pairs of functions of obs and action, to values [B]. For discrete actions, `policy` maps obs to a
Categorical, and critics map obs to the values [B, K] of all actions. Symbols as in README.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from tiebreak.algorithms.sac.config import Config
from tiebreak.algorithms.sac.data import ActorTerms, AlphaTerms, Batch, CriticTerms, Noise
from tiebreak.core.types import Array
from tiebreak.frameworks.jax import ops


def soft_terms(policy: Callable, critics: tuple, obs: Array, noise: Array) -> tuple[Array, Array]:
    """Return Q and log π of the policy's action, both [B]; of discrete ones, the expectations.

    Q is the smaller of both critics' values.
    """
    distribution = policy(obs)
    if isinstance(distribution, ops.Categorical):  # D12
        q1, q2 = (q(obs) for q in critics)
        probs = jnp.exp(distribution.log_p)
        q = jnp.sum(probs * jnp.minimum(q1, q2), axis=-1)
        return q, jnp.sum(probs * distribution.log_p, axis=-1)
    action, log_prob = distribution.sample_log_prob(noise)  # D1
    q1, q2 = (q(obs, action) for q in critics)
    return jnp.minimum(q1, q2), log_prob


def taken_value(critic: Callable, batch: Batch) -> Array:
    """Return the values [B] of a batch's actions by one critic."""
    if not jnp.issubdtype(batch.action.dtype, jnp.integer):
        return critic(batch.obs, batch.action)
    return jnp.take_along_axis(critic(batch.obs), batch.action[:, None], axis=-1)[:, 0]  # D12


def critic_target(
    policy: Callable, targets: tuple, log_alpha: Array, batch: Batch, noise: Noise
) -> Array:
    """Return the soft value [B] that both critics are moved towards, by target critics."""
    q, log_prob = soft_terms(policy, targets, batch.next_obs, noise.next_action)
    soft_value = q - jnp.exp(log_alpha) * log_prob  # D4 D6
    return jax.lax.stop_gradient(batch.reward + batch.discount * soft_value)


def critic_loss(critics: tuple, batch: Batch, target: Array) -> CriticTerms:
    """Sum both critics' mean squared temporal-difference errors; target [B]."""
    q1, q2 = (taken_value(critic, batch) for critic in critics)
    loss = jnp.square(q1 - target).mean() + jnp.square(q2 - target).mean()  # D4
    return CriticTerms(loss=loss, q1=q1.mean(), q2=q2.mean(), target=target.mean())


def actor_loss(
    policy: Callable, critics: tuple, log_alpha: Array, batch: Batch, noise: Noise
) -> ActorTerms:
    """Return the mean of α·log π − Q over the policy's own actions: minus the soft value."""
    q, log_prob = soft_terms(policy, critics, batch.obs, noise.action)  # D5
    loss = (jnp.exp(log_alpha) * log_prob - q).mean()  # D6
    return ActorTerms(loss=loss, q=q.mean(), entropy=-log_prob.mean())


def alpha_loss(
    policy: Callable, log_alpha: Array, batch: Batch, noise: Noise, config: Config
) -> AlphaTerms:
    """Return the temperature's loss: α rises while the entropy is below its target."""
    distribution = policy(batch.obs)
    if isinstance(distribution, ops.Categorical):
        log_prob, most = -distribution.entropy(), math.log(distribution.logits.shape[-1])
        target_entropy = config.target_entropy_scale * most  # D12
    else:
        _, log_prob = distribution.sample_log_prob(noise.action)
        target_entropy = -config.target_entropy_scale * noise.action.shape[-1]  # D6
    deficit = jax.lax.stop_gradient(log_prob.mean() + target_entropy)
    return AlphaTerms(loss=-log_alpha * deficit, alpha=jnp.exp(log_alpha))  # D6
