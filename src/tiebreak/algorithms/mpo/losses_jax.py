"""MPO's losses in JAX, written once over callables for Linen, NNX and Equinox.

A policy maps obs [B, D] to a Gaussian, a critic obs [B, D] and action [B, A] to [B]; `dual` maps
names of dual variables to arrays. Symbols as in README.md, sizes as in data.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import jax
import jax.numpy as jnp

from tiebreak.algorithms.mpo import dual_jax as duals
from tiebreak.algorithms.mpo.config import Config
from tiebreak.algorithms.mpo.data import Batch, LossTerms, Samples
from tiebreak.core.types import Array
from tiebreak.frameworks.jax.ops import Gaussian


def draw_samples(policy: Callable, critics: Sequence, next_obs: Array, noise: Array) -> Samples:
    """Actions of the target policy and what the target critics say; noise [S, B, A]."""
    distribution = policy(next_obs)
    action = distribution.sample(noise)
    obs = jnp.broadcast_to(next_obs, (*noise.shape[:2], next_obs.shape[-1]))
    obs, clipped = (x.reshape(-1, x.shape[-1]) for x in (obs, jnp.clip(action, -1.0, 1.0)))  # D1
    value = reduce(jnp.minimum, [critic(obs, clipped) for critic in critics])  # D2
    samples = Samples(distribution, action, value.reshape(noise.shape[:2]))
    return jax.tree.map(jax.lax.stop_gradient, samples)


def objectives(samples: Samples, config: Config) -> Array:
    """What the samples are reweighted by: Q, and minus the way out of bounds; [M, S, B]."""
    if not config.epsilon_penalty:
        return samples.value[None]
    outside = samples.action - jnp.clip(samples.action, -1.0, 1.0)
    return jnp.stack([samples.value, -jnp.sqrt(jnp.square(outside).sum(axis=-1))])  # D5


def critic_loss(critics: Sequence[Callable], batch: Batch, target: Array) -> tuple[Array, Array]:
    """Half the mean squared errors, summed over critics; Q of the first. target [B]."""
    values = [critic(batch.obs, batch.action) for critic in critics]
    return sum(0.5 * jnp.square(q - target).mean() for q in values), values[0].mean()  # D3


def policy_loss(policy: Gaussian, samples: Samples, weights: Array) -> Array:
    """Cross-entropy to the weighted samples, of the mean and of the std apart; weights [S, B]."""
    old = samples.policy
    parts = Gaussian(policy.mean, old.log_std), Gaussian(old.mean, policy.log_std)  # D6
    log_prob = sum(part.log_prob(samples.action) for part in parts)
    return -(weights * log_prob).sum(axis=0).mean()


def mpo_loss(
    policy: Callable,
    critics: Sequence[Callable],
    dual: Mapping[str, Array],
    samples: Samples,
    batch: Batch,
    config: Config,
) -> LossTerms:
    """All losses; each one's gradient is in its own networks only."""
    hold = jax.lax.stop_gradient
    target = batch.reward + batch.discount * samples.value.mean(axis=0)  # D2
    critic, q = critic_loss(critics, batch, target)
    values = objectives(samples, config)
    if config.dual == "gradient":
        temperature = duals.positive(dual["log_temperature"])  # D8
    else:
        temperature = getattr(duals, config.dual)(values, config.epsilons)  # D4
    tempered = duals.tempered(values, temperature)
    new = policy(batch.next_obs)
    actor = policy_loss(new, samples, hold(tempered.weights).sum(axis=0))  # D5
    multipliers = duals.temperature_loss(temperature, tempered, config.epsilons)  # D4
    kls = duals.divergences(new, samples.policy)  # D6
    for part, kl in zip(("mean", "std"), kls, strict=True):
        alpha = duals.positive(dual[f"log_alpha_{part}"])  # D8
        actor += (hold(alpha) * kl).sum()
        multipliers += (alpha * (getattr(config, f"epsilon_{part}") - hold(kl))).sum()
    seen = target.mean(), temperature[0], hold(tempered.kl)[0], *(kl.mean() for kl in kls)
    return LossTerms(critic + actor + multipliers, critic, actor, multipliers, q, *seen)
