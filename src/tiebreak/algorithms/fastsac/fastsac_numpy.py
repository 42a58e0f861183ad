"""FastSAC's oracle: the equations of README.md in plain float64 NumPy, written to be read.

It shares no arithmetic with the implementations, so that agreeing with it means something.
Its state is the canonical dictionary itself; no function changes its arguments. U, B, N, A, K
as in data.py.
"""

from __future__ import annotations

import numpy as np

from tiebreak.algorithms.fastsac.config import Config
from tiebreak.algorithms.fastsac.data import (
    COUNTS,
    CRITICS,
    Act,
    ActorTerms,
    AlphaTerms,
    Batch,
    CriticTerms,
    Metrics,
    Noise,
    Target,
)
from tiebreak.core.types import EnvSpec
from tiebreak.frameworks.numpy import networks
from tiebreak.frameworks.numpy.ops import (
    Weights,
    adam,
    clip_by_norm,
    decay,
    log_softmax,
    merge_stats,
    normalize_obs,
    polyak,
    project_distribution,
    sgd,
    softmax,
)


def trained(weights: Weights) -> list[str]:
    """Return the canonical names of what the optimizers change."""
    return [k for k in weights if k.split("/")[0] in ("actor", *CRITICS, "log_alpha")]


def policy(spec: EnvSpec, config: Config, weights: Weights, obs: np.ndarray, noise: np.ndarray):
    """Sample the policy for features [B, O], of which it sees a part, and noise [B, A] (D10).

    Returns actions [B, A], log π [B], and for the gradient tanh s, σ and the network's cache.
    """
    visible = obs[:, : spec.visible_size]
    out, cache = networks.forward(spec, config.actor_layers, weights, "actor", visible)
    mean, raw = np.split(out, 2, axis=-1)
    share = (1.0 + np.tanh(raw)) / 2.0
    log_std = (1.0 - share) * config.log_std_min + share * config.log_std_max  # D3
    noise = np.asarray(noise, np.float64)  # its square in float32 would be off by 1e-8
    x = mean + np.exp(log_std) * noise
    # The slope of tanh is 1 / cosh²; log cosh x = log(eˣ + e⁻ˣ) − log 2. D2
    log_slope = 2.0 * (np.log(2.0) - np.logaddexp(x, -x))
    log_prob = -(noise**2) / 2.0 - np.log(np.sqrt(2.0 * np.pi)) - log_std - log_slope
    return np.tanh(x), log_prob.sum(axis=-1), np.tanh(raw), np.exp(log_std), cache


def critic(
    spec: EnvSpec, config: Config, weights: Weights, name: str, obs: np.ndarray, action: np.ndarray
):
    """Return logits [B, K] for features [B, O] and actions [B, A], and the network's cache (D4)."""
    rows = np.concatenate([obs, action], axis=1)
    return networks.forward(spec, config.critic_layers, weights, name, rows)


def atoms(config: Config) -> np.ndarray:
    """Return the K possible returns that critics give probabilities to (D4)."""
    return config.v_min + np.arange(config.num_atoms) * (
        (config.v_max - config.v_min) / (config.num_atoms - 1)
    )


def act(spec: EnvSpec, config: Config, weights: Weights, obs: np.ndarray, noise: np.ndarray) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, A]; zero noise is greedy (D1)."""
    rows = np.asarray(obs, np.float64).reshape(len(obs), -1)
    raw, *_ = policy(spec, config, weights, normalize_obs(spec, config, weights, rows), noise)
    low, high = (np.array(bound) for bound in spec.bounds)
    return Act((1.0 - raw) / 2.0 * low + (1.0 + raw) / 2.0 * high, raw)


def targets(spec: EnvSpec, config: Config, weights: Weights, batch: Batch, noise: Noise) -> Target:
    """Return the distributions [B, K] that the critics are moved towards (D4)."""
    action, log_prob, *_ = policy(spec, config, weights, batch.next_obs, noise.next_action)
    bonus = -np.exp(weights["log_alpha"]) * log_prob  # of the action that follows
    soft_reward = batch.reward + batch.discount * bonus
    values = soft_reward[:, None] + np.outer(batch.discount, atoms(config))
    values = np.clip(values, config.v_min, config.v_max)
    projected = []
    for name in CRITICS:
        logits, _ = critic(spec, config, weights, f"target/{name}", batch.next_obs, action)
        projected.append(project_distribution(softmax(logits), values, config.v_min, config.v_max))
    return Target(*projected, entropy=-log_prob.mean())


def critic_gradients(
    spec: EnvSpec, config: Config, weights: Weights, batch: Batch, noise: Noise
) -> tuple[CriticTerms, dict[str, np.ndarray]]:
    """Return terms and d critic_loss / d weight by name, for one update's features (D4)."""
    target = targets(spec, config, weights, batch, noise)
    loss, means, grads, layers = 0.0, [], {}, config.critic_layers
    for name, y in zip(CRITICS, (target.first, target.second), strict=True):
        logits, cache = critic(spec, config, weights, name, batch.obs, batch.action)
        loss -= (y * log_softmax(logits)).sum(axis=1).mean()
        means.append((softmax(logits) @ atoms(config)).mean())
        d_logits = (y.sum(axis=1, keepdims=True) * softmax(logits) - y) / len(y)
        grads.update(networks.backward(spec, layers, weights, name, cache, d_logits))
    mean_target = np.mean([(y @ atoms(config)).mean() for y in (target.first, target.second)])
    return CriticTerms(loss, *means, mean_target, target.entropy), grads


def alpha_gradients(
    spec: EnvSpec, config: Config, weights: Weights, batch: Batch, noise: Noise
) -> tuple[AlphaTerms, dict[str, np.ndarray]]:
    """Return terms and d alpha_loss / d log α, for one update's features (D6)."""
    _, log_prob, *_ = policy(spec, config, weights, batch.next_obs, noise.next_action)
    alpha = np.exp(weights["log_alpha"])
    surplus = -log_prob.mean() + config.target_entropy_scale * spec.action_size
    loss = alpha * surplus  # which is its own derivative in log α
    return AlphaTerms(loss, alpha), {"log_alpha": np.asarray(loss)}


def actor_gradients(
    spec: EnvSpec, config: Config, weights: Weights, batch: Batch, noise: Noise
) -> tuple[ActorTerms, dict[str, np.ndarray]]:
    """Return terms and d actor_loss / d weight by name, for one update's features (D5)."""
    action, log_prob, squashed, std, cache = policy(spec, config, weights, batch.obs, noise.action)
    rows, alpha = len(log_prob), np.exp(weights["log_alpha"])
    d_action, values = np.zeros_like(action), []
    for name in CRITICS:
        logits, q_cache = critic(spec, config, weights, name, batch.obs, action)
        probs = softmax(logits)
        q = probs @ atoms(config)
        d_logits = -probs * (atoms(config) - q[:, None]) / (2.0 * rows)
        values.append(q)
        d_action += networks.action_gradient(
            spec, config.critic_layers, weights, name, q_cache, d_logits
        )
    # x, before tanh: tanh' = 1 − a², and log π falls by log tanh', whose slope is −2a.
    d_mean = d_action * (1.0 - action**2) + 2.0 * alpha * action / rows
    d_log_std = d_mean * std * noise.action - alpha / rows
    half = (config.log_std_max - config.log_std_min) / 2.0  # D3
    d_out = np.concatenate([d_mean, d_log_std * half * (1.0 - squashed**2)], axis=-1)
    grads = networks.backward(spec, config.actor_layers, weights, "actor", cache, d_out)
    q = np.mean(values)
    return ActorTerms(alpha * log_prob.mean() - q, q), grads


def optimize(config: Config, weights: Weights, grads: Weights, optimizer: str):
    """Take a step of one of the three optimizers (D8); return weights and norm before."""
    rate, count = config.rates[optimizer], COUNTS[optimizer]
    clipped, norm = clip_by_norm(grads, config.max_grad_norm)
    weights = decay(weights, grads, rate * config.decays[optimizer])
    if config.optimizer == "sgd":
        return sgd(weights, clipped, rate, count), norm
    return adam(weights, clipped, rate, config.adam_eps, count, config.adam_beta2), norm


def update(spec: EnvSpec, config: Config, weights: Weights, batch: Batch, noise: Noise):
    """Update critics, α and targets `policy_delay` times, then the actor once (D7).

    Batch and `noise.next_action` have leading axes [policy_delay, B], `noise.action` has [B].
    Returns weights and Metrics.
    """
    critic_metrics = []
    for u in range(config.policy_delay):
        row = Batch(*(x[u] for x in batch)), Noise(noise.next_action[u], noise.action)
        terms, grads = critic_gradients(spec, config, weights, *row)
        alpha, alpha_grads = alpha_gradients(spec, config, weights, *row)
        weights, norm = optimize(config, weights, grads, "critic")
        weights, _ = optimize(config, weights, alpha_grads, "alpha")
        weights = polyak(weights, grads, config.tau)
        critic_metrics.append((*terms, norm, *alpha))
    terms, grads = actor_gradients(spec, config, weights, *row)
    weights, norm = optimize(config, weights, grads, "actor")
    return weights, Metrics(*np.mean(critic_metrics, axis=0), *terms, norm)


def prepare(spec: EnvSpec, config: Config, weights: Weights, batch: Batch) -> Batch:
    """Return the batch in float64, with features for observations."""
    batch = Batch(*(np.asarray(x, np.float64) for x in batch))
    obs, next_obs = (normalize_obs(spec, config, weights, x) for x in (batch.obs, batch.next_obs))
    return batch._replace(obs=obs, next_obs=next_obs)


def step(spec: EnvSpec, config: Config, weights: Weights, batch: Batch, noise: Noise):
    """Run all updates of a round; return weights, and Metrics averaged over them."""
    data = prepare(spec, config, weights, batch)
    before = weights
    history = []
    for i, first in enumerate(range(0, config.num_updates, config.policy_delay)):
        group = slice(first, first + config.policy_delay)
        rows = Batch(*(x[group] for x in data))
        sample = Noise(noise.next_action[group], noise.action[i])
        weights, metrics = update(spec, config, weights, rows, sample)
        history.append(metrics)
    if config.normalize_obs:  # D10
        # The statistics of the whole round merge into those that it started with.
        rows = np.asarray(batch.obs, np.float64).reshape(-1, batch.obs.shape[-1])
        weights = {**weights, **merge_stats(before, "obs_moments", rows)}
    return weights, Metrics(*np.mean(history, axis=0))
