"""SAC's oracle: the equations of README.md in plain float64 NumPy, written to be read.

It shares no arithmetic with the implementations, so that agreeing with it means something.
Its state is the canonical dictionary itself; no function changes its arguments. U, B, N, A as
in data.py.
"""

from __future__ import annotations

import numpy as np

from tiebreak.algorithms.sac.config import Config
from tiebreak.algorithms.sac.data import (
    COUNTS,
    CRITICS,
    Act,
    ActorTerms,
    AlphaTerms,
    Batch,
    CriticTerms,
    Metrics,
    Noise,
)
from tiebreak.core.types import EnvSpec
from tiebreak.frameworks.numpy import networks
from tiebreak.frameworks.numpy.ops import (
    Weights,
    adam,
    clip_by_norm,
    log_softmax,
    merge_stats,
    normalize_obs,
    polyak,
    sgd,
)


def trained(weights: Weights) -> list[str]:
    """Return the canonical names of what the optimizers change."""
    return [k for k in weights if k.startswith(("actor/", "critic")) or k == "log_alpha"]


def policy(spec: EnvSpec, config: Config, weights: Weights, obs: np.ndarray, noise: np.ndarray):
    """Sample the policy for features [B, O] and noise [B, A].

    Returns actions [B, A], log π [B], and for the gradient tanh s, σ and the network's cache.
    """
    out, cache = networks.forward(spec, config.layers, weights, "actor", obs)
    mean, raw = np.split(out, 2, axis=-1)
    share = (1.0 + np.tanh(raw)) / 2.0
    log_std = (1.0 - share) * config.log_std_min + share * config.log_std_max  # D3
    noise = np.asarray(noise, np.float64)  # its square in float32 would be off by 1e-8
    x = mean + np.exp(log_std) * noise
    # The slope of tanh is 1 / cosh²; log cosh x = log(eˣ + e⁻ˣ) − log 2. D2
    log_slope = 2.0 * (np.log(2.0) - np.logaddexp(x, -x))
    log_prob = -(noise**2) / 2.0 - np.log(np.sqrt(2.0 * np.pi)) - log_std - log_slope
    return np.tanh(x), log_prob.sum(axis=-1), np.tanh(raw), np.exp(log_std), cache


def choices(spec: EnvSpec, config: Config, weights: Weights, prefix: str, obs: np.ndarray):
    """Return log π [B, K] and the smaller critics' values [B, K] of all discrete actions (D12).

    `prefix` is that of the critics. Also the cache of the actor's network.
    """
    logits, cache = networks.forward(spec, config.layers, weights, "actor", obs)
    values = [networks.forward(spec, config.layers, weights, prefix + k, obs)[0] for k in CRITICS]
    return log_softmax(logits), np.minimum(*values), cache


def act(spec: EnvSpec, config: Config, weights: Weights, obs: np.ndarray, noise: np.ndarray) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, A]; zero noise is greedy (D1)."""
    rows = np.asarray(obs, np.float64).reshape(len(obs), -1)
    rows = normalize_obs(spec, config, weights, rows)
    if spec.discrete:  # D12
        logits, _ = networks.forward(spec, config.layers, weights, "actor", rows)
        best = np.argmax(logits + noise, axis=-1)
        return Act(best, best)
    raw, *_ = policy(spec, config, weights, rows, noise)
    low, high = (np.array(b) for b in spec.bounds)
    return Act((1.0 - raw) / 2.0 * low + (1.0 + raw) / 2.0 * high, raw)


def critics(
    spec: EnvSpec,
    config: Config,
    weights: Weights,
    prefix: str,
    obs: np.ndarray,
    action: np.ndarray,
):
    """Return the values [2, B] of both critics under a prefix, and the caches of both."""
    x = np.concatenate([obs, action], axis=-1)
    (q1, cache1), (q2, cache2) = (
        networks.forward(spec, config.layers, weights, prefix + k, x) for k in CRITICS
    )
    return np.stack([q1[:, 0], q2[:, 0]]), (cache1, cache2)


def critic_target(
    spec: EnvSpec, config: Config, weights: Weights, batch: Batch, noise: Noise
) -> np.ndarray:
    """Return the value [B] that both critics are moved towards."""
    alpha = np.exp(weights["log_alpha"])
    if spec.discrete:
        log_p, values, _ = choices(spec, config, weights, "target/", batch.next_obs)
        soft_value = (np.exp(log_p) * (values - alpha * log_p)).sum(axis=-1)  # D12
    else:
        action, log_prob, *_ = policy(spec, config, weights, batch.next_obs, noise.next_action)
        q, _ = critics(spec, config, weights, "target/", batch.next_obs, action)
        soft_value = q.min(axis=0) - alpha * log_prob  # D4 D6
    return batch.reward + batch.discount * soft_value


def critic_gradients(
    spec: EnvSpec, config: Config, weights: Weights, batch: Batch, noise: Noise
) -> tuple[CriticTerms, dict[str, np.ndarray]]:
    """Return terms and d loss / d weight of the critics by name; the target is a constant."""
    target = critic_target(spec, config, weights, batch, noise)
    if spec.discrete:
        q, caches = taken_values(spec, config, weights, batch)
    else:
        q, caches = critics(spec, config, weights, "", batch.obs, batch.action)
    error = q - target
    grads = {}
    for name, cache, row in zip(CRITICS, caches, error, strict=True):
        d_q = 2.0 * row[:, None] / len(row)  # D4
        if spec.discrete:
            d_q = d_q * np.eye(spec.action_size)[batch.action.astype(int)]  # D12
        grads.update(networks.backward(spec, config.layers, weights, name, cache, d_q))
    loss = (error**2).mean(axis=1).sum()
    q1, q2 = q.mean(axis=1)
    return CriticTerms(loss=loss, q1=q1, q2=q2, target=target.mean()), grads


def taken_values(spec: EnvSpec, config: Config, weights: Weights, batch: Batch):
    """Return both critics' values [2, B] of the discrete actions in a batch, and their caches."""
    rows, taken = np.arange(len(batch.obs)), batch.action.astype(int)
    (q1, cache1), (q2, cache2) = (
        networks.forward(spec, config.layers, weights, k, batch.obs) for k in CRITICS
    )
    return np.stack([q1[rows, taken], q2[rows, taken]]), (cache1, cache2)


def actor_gradients(
    spec: EnvSpec, config: Config, weights: Weights, batch: Batch, noise: Noise
) -> tuple[ActorTerms, dict[str, np.ndarray]]:
    """Return terms and d loss / d weight of the actor by name, for one update's features."""
    if spec.discrete:
        return discrete_actor_gradients(spec, config, weights, batch)
    action, log_prob, squashed, std, cache = policy(spec, config, weights, batch.obs, noise.action)
    q, q_caches = critics(spec, config, weights, "", batch.obs, action)
    rows, alpha = len(log_prob), np.exp(weights["log_alpha"])
    d_action = np.zeros_like(action)
    for name, q_cache, smaller in zip(CRITICS, q_caches, q == q.min(axis=0), strict=True):
        d_q = np.where(smaller, -1.0 / rows, 0.0)[:, None]  # D5
        d_action += networks.action_gradient(spec, config.layers, weights, name, q_cache, d_q)
    # x, before tanh: tanh' = 1 − a², and log π falls by log tanh', whose slope is −2a.
    d_mean = d_action * (1.0 - action**2) + 2.0 * alpha * action / rows
    d_log_std = d_mean * std * noise.action - alpha / rows
    half = (config.log_std_max - config.log_std_min) / 2.0  # D3
    d_out = np.concatenate([d_mean, d_log_std * half * (1.0 - squashed**2)], axis=-1)
    grads = networks.backward(spec, config.layers, weights, "actor", cache, d_out)
    smaller_q, log_prob = q.min(axis=0).mean(), log_prob.mean()
    return ActorTerms(alpha * log_prob - smaller_q, smaller_q, -log_prob), grads


def discrete_actor_gradients(
    spec: EnvSpec, config: Config, weights: Weights, batch: Batch
) -> tuple[ActorTerms, dict[str, np.ndarray]]:
    """Return the same for discrete actions: the loss is an expectation over all of them (D12)."""
    log_p, values, cache = choices(spec, config, weights, "", batch.obs)
    p, alpha = np.exp(log_p), np.exp(weights["log_alpha"])
    cost = alpha * log_p - values
    mean_cost = (p * cost).sum(axis=-1, keepdims=True)
    d_out = p * (cost - mean_cost) / len(p)  # the slope of α·log π itself sums to 0
    grads = networks.backward(spec, config.layers, weights, "actor", cache, d_out)
    q, log_prob = (p * values).sum(axis=-1).mean(), (p * log_p).sum(axis=-1).mean()
    return ActorTerms(mean_cost.mean(), q, -log_prob), grads


def alpha_gradients(
    spec: EnvSpec, config: Config, weights: Weights, batch: Batch, noise: Noise
) -> tuple[AlphaTerms, dict[str, np.ndarray]]:
    """Return terms and d loss / d log α, for one update's features."""
    if spec.discrete:
        log_p, _, _ = choices(spec, config, weights, "", batch.obs)
        entropy = -(np.exp(log_p) * log_p).sum(axis=-1)
        surplus = entropy.mean() - config.target_entropy_scale * np.log(spec.action_size)  # D12
    else:
        _, log_prob, *_ = policy(spec, config, weights, batch.obs, noise.action)
        surplus = -log_prob.mean() + config.target_entropy_scale * spec.action_size  # D6
    log_alpha = weights["log_alpha"]
    return AlphaTerms(log_alpha * surplus, np.exp(log_alpha)), {"log_alpha": np.asarray(surplus)}


def optimize(config: Config, weights: Weights, grads: Weights, optimizer: str):
    """Take a step of one optimizer (D8); return weights and norm before."""
    rate, count = config.rates[optimizer], COUNTS[optimizer]
    clipped, norm = clip_by_norm(grads, config.max_grad_norm)
    if config.optimizer == "sgd":
        return sgd(weights, clipped, rate, count=count), norm
    return adam(weights, clipped, rate, config.adam_eps, count=count), norm


def update(spec: EnvSpec, config: Config, weights: Weights, batch: Batch, noise: Noise):
    """Update critics, actor, α and targets in this order; each sees the updates before it (D7)."""
    critic, grads = critic_gradients(spec, config, weights, batch, noise)
    weights, critic_norm = optimize(config, weights, grads, "critic")
    critic_names = list(grads)
    actor, grads = actor_gradients(spec, config, weights, batch, noise)
    weights, actor_norm = optimize(config, weights, grads, "actor")
    alpha, grads = alpha_gradients(spec, config, weights, batch, noise)
    weights, _ = optimize(config, weights, grads, "alpha")
    weights = polyak(weights, critic_names, config.tau)  # D9
    return weights, Metrics(*critic, *actor, *alpha, critic_norm, actor_norm)


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
    for u in range(config.num_updates):
        rows = Batch(*(x[u] for x in data)), Noise(*(x[u] for x in noise))
        weights, metrics = update(spec, config, weights, *rows)
        history.append(metrics)
    if config.normalize_obs:  # D11
        # The statistics of the whole round merge into those that it started with.
        rows = np.asarray(batch.obs, np.float64).reshape(-1, batch.obs.shape[-1])
        weights = {**weights, **merge_stats(before, "obs_moments", rows)}
    return weights, Metrics(*(np.mean(column) for column in zip(*history, strict=True)))
