"""MPO's losses in JAX, written once over callables for all frameworks on it.

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
    """Sample actions of the target policy and value them by target critics; noise [S, B, A]."""
    distribution = policy(next_obs)
    action = distribution.sample(noise)
    obs = jnp.broadcast_to(next_obs, (*noise.shape[:2], next_obs.shape[-1]))
    obs = obs.reshape(-1, obs.shape[-1])
    clipped = jnp.clip(action, -1.0, 1.0).reshape(-1, action.shape[-1])  # D1
    value = reduce(jnp.minimum, [critic(obs, clipped) for critic in critics])  # D2
    samples = Samples(policy=distribution, action=action, value=value.reshape(noise.shape[:2]))
    return jax.tree.map(jax.lax.stop_gradient, samples)


def objectives(samples: Samples, config: Config) -> Array:
    """Return the objectives [M, S, B] that reweight samples: Q, and the penalty if configured."""
    if not config.epsilon_penalty:
        return samples.value[None]
    outside = samples.action - jnp.clip(samples.action, -1.0, 1.0)
    distance = jnp.sqrt(jnp.square(outside).sum(axis=-1))
    return jnp.stack([samples.value, -distance])  # D5


def critic_loss(critics: Sequence[Callable], batch: Batch, target: Array) -> tuple[Array, Array]:
    """Sum half the mean squared errors over critics; also return the mean of the first's Q.

    target [B].
    """
    values = [critic(batch.obs, batch.action) for critic in critics]
    loss = sum(0.5 * jnp.square(q - target).mean() for q in values)  # D3
    return loss, values[0].mean()


def policy_loss(policy: Gaussian, samples: Samples, weights: Array) -> Array:
    """Return the cross-entropy to the weighted samples; weights [S, B].

    Mean and std are fitted apart, each with the other of the target policy.
    """
    old = samples.policy
    new_mean = Gaussian(policy.mean, old.log_std)  # D6
    new_std = Gaussian(old.mean, policy.log_std)
    log_prob = new_mean.log_prob(samples.action) + new_std.log_prob(samples.action)
    return -(weights * log_prob).sum(axis=0).mean()


def mpo_loss(
    policy: Callable,
    critics: Sequence[Callable],
    dual: Mapping[str, Array],
    samples: Samples,
    batch: Batch,
    config: Config,
) -> LossTerms:
    """Return all losses; each one's gradient is in its own networks only."""
    hold = jax.lax.stop_gradient
    target = batch.reward + batch.discount * samples.value.mean(axis=0)  # D2
    critic, q = critic_loss(critics, batch, target)

    # E-step: reweight the samples of the target policy.
    values = objectives(samples, config)
    temperature = _solve_temperature(values, dual, config)
    tempered = duals.tempered(values, temperature)
    multipliers = duals.temperature_loss(temperature, tempered, config.epsilons)  # D4

    # M-step: fit the policy to them; its divergence from the target policy is bounded.
    new = policy(batch.next_obs)
    actor = policy_loss(new, samples, hold(tempered.weights).sum(axis=0))  # D5
    kl_mean, kl_std = duals.divergences(new, samples.policy)  # D6
    for name, kl, bound in (
        ("log_alpha_mean", kl_mean, config.epsilon_mean),
        ("log_alpha_std", kl_std, config.epsilon_std),
    ):
        alpha = duals.positive(dual[name])  # D8
        actor += (hold(alpha) * kl).sum()
        multipliers += (alpha * (bound - hold(kl))).sum()

    loss = critic + actor + multipliers
    divergences = hold(tempered.kl)[0], kl_mean.mean(), kl_std.mean()
    return LossTerms(
        loss, critic, actor, multipliers, q, target.mean(), temperature[0], *divergences
    )


def _solve_temperature(values: Array, dual: Mapping[str, Array], config: Config) -> Array:
    """Return the temperature of each objective [M]: trained, or solved for."""
    if config.dual == "gradient":
        return duals.positive(dual["log_temperature"])  # D8
    if config.dual == "newton":
        return duals.newton(values, config.epsilons)  # D4
    return duals.slsqp(values, config.epsilons)
