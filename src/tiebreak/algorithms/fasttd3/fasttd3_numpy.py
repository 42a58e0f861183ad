"""FastTD3's oracle: the equations of README.md in plain float64 NumPy, written to be read.

It shares no arithmetic with the implementations, so that agreeing with it means something.
Its state is the canonical dictionary itself; no function changes its arguments. U, B, N, A, K
as in data.py.
"""

from __future__ import annotations

import numpy as np

from tiebreak.algorithms.fasttd3.config import Config
from tiebreak.algorithms.fasttd3.data import (
    CRITICS,
    Act,
    ActorTerms,
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
    return [k for k in weights if k.split("/")[0] in ("actor", *CRITICS)]


def policy(spec: EnvSpec, config: Config, weights: Weights, obs: np.ndarray):
    """Return actions [B, A] in [-1, 1] for features [B, O], and the network's cache (D9)."""
    visible = obs[:, : spec.visible_size]
    out, cache = networks.forward(spec, config.actor_layers, weights, "actor", visible)
    return np.tanh(out), cache


def critic(
    spec: EnvSpec, config: Config, weights: Weights, name: str, obs: np.ndarray, action: np.ndarray
):
    """Return logits [B, K] for features [B, O] and actions [B, A], and the network's cache (D3)."""
    rows = np.concatenate([obs, action], axis=1)
    return networks.forward(spec, config.critic_layers, weights, name, rows)


def atoms(config: Config) -> np.ndarray:
    """Return the K possible returns that critics give probabilities to (D3)."""
    return config.v_min + np.arange(config.num_atoms) * (
        (config.v_max - config.v_min) / (config.num_atoms - 1)
    )


def act(spec: EnvSpec, config: Config, weights: Weights, obs: np.ndarray, noise: np.ndarray) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, A] in their units; zero is greedy (D1)."""
    rows = np.asarray(obs, np.float64).reshape(len(obs), -1)
    greedy, _ = policy(spec, config, weights, normalize_obs(spec, config, weights, rows))
    raw = np.clip(greedy + np.asarray(noise, np.float64), -1.0, 1.0)
    low, high = (np.array(bound) for bound in spec.bounds)
    return Act(low + (raw + 1.0) / 2.0 * (high - low), raw)


def targets(
    spec: EnvSpec, config: Config, weights: Weights, batch: Batch, noise: Noise
) -> np.ndarray:
    """Return the distribution [B, K] that both critics are moved towards (D2 D3 D4)."""
    c, sigma = config.noise_clip, config.target_noise
    smoothing = np.clip(sigma * np.asarray(noise.target, np.float64), -c, c)
    greedy, _ = policy(spec, config, weights, batch.next_obs)
    action = np.clip(greedy + smoothing, -1.0, 1.0)
    values = batch.reward[:, None] + batch.discount[:, None] * atoms(config)
    values = np.clip(values, config.v_min, config.v_max)
    projected = []
    for name in CRITICS:
        logits, _ = critic(spec, config, weights, f"target/{name}", batch.next_obs, action)
        projected.append(project_distribution(softmax(logits), values, config.v_min, config.v_max))
    means = [p @ atoms(config) for p in projected]
    return np.where((means[0] < means[1])[:, None], *projected)


def critic_gradients(
    spec: EnvSpec, config: Config, weights: Weights, batch: Batch, noise: Noise
) -> tuple[CriticTerms, dict[str, np.ndarray]]:
    """Return terms and d critic_loss / d weight by name, for one update's features (D4)."""
    y = targets(spec, config, weights, batch, noise)
    loss, means, grads, layers = 0.0, [], {}, config.critic_layers
    for name in CRITICS:
        logits, cache = critic(spec, config, weights, name, batch.obs, batch.action)
        loss -= (y * log_softmax(logits)).sum(axis=1).mean()
        means.append((softmax(logits) @ atoms(config)).mean())
        d_logits = (y.sum(axis=1, keepdims=True) * softmax(logits) - y) / len(y)
        grads.update(networks.backward(spec, layers, weights, name, cache, d_logits))
    return CriticTerms(loss, *means, (y @ atoms(config)).mean()), grads


def actor_gradients(
    spec: EnvSpec, config: Config, weights: Weights, batch: Batch, noise: Noise
) -> tuple[ActorTerms, dict[str, np.ndarray]]:
    """Return terms and d actor_loss / d weight by name, for one update's features (D5)."""
    action, cache = policy(spec, config, weights, batch.obs)
    values, slopes = [], []
    for name in CRITICS:
        logits, q_cache = critic(spec, config, weights, name, batch.obs, action)
        probs = softmax(logits)
        q = probs @ atoms(config)
        d_logits = -probs * (atoms(config) - q[:, None]) / len(q)
        values.append(q)
        slopes.append(
            networks.action_gradient(spec, config.critic_layers, weights, name, q_cache, d_logits)
        )
    d_action = np.where((values[0] < values[1])[:, None], *slopes) * (1.0 - action**2)
    grads = networks.backward(spec, config.actor_layers, weights, "actor", cache, d_action)
    return ActorTerms(-np.minimum(*values).mean()), grads


def optimize(config: Config, weights: Weights, grads: Weights, rate: float, count: str):
    """Take a step of one of the two optimizers (D7); return weights and norm before."""
    clipped, norm = clip_by_norm(grads, config.max_grad_norm)
    weights = decay(weights, grads, rate * config.weight_decay)
    if config.optimizer == "sgd":
        return sgd(weights, clipped, rate, count), norm
    return adam(weights, clipped, rate, config.adam_eps, count), norm


def update(spec: EnvSpec, config: Config, weights: Weights, batch: Batch, noise: Noise):
    """Update the critics and their targets `policy_delay` times, then the actor once (D6).

    Batch and noise have leading axes [policy_delay, B]. Returns weights and Metrics.
    """
    critic_metrics = []
    for u in range(config.policy_delay):
        row = Batch(*(x[u] for x in batch)), Noise(*(x[u] for x in noise))
        terms, grads = critic_gradients(spec, config, weights, *row)
        weights, norm = optimize(config, weights, grads, config.critic_lr, "adam/count")
        weights = polyak(weights, grads, config.tau)
        critic_metrics.append((*terms, norm))
    terms, grads = actor_gradients(spec, config, weights, *row)
    weights, norm = optimize(config, weights, grads, config.actor_lr, "adam/actor_count")
    return weights, Metrics(*np.mean(critic_metrics, axis=0), *terms, norm)


def prepare(spec: EnvSpec, config: Config, weights: Weights, batch: Batch) -> Batch:
    """Return the batch with features for observations."""
    obs, next_obs = (
        normalize_obs(spec, config, weights, np.asarray(x, np.float64))
        for x in (batch.obs, batch.next_obs)
    )
    return batch._replace(obs=obs, next_obs=next_obs)


def step(spec: EnvSpec, config: Config, weights: Weights, batch: Batch, noise: Noise):
    """Run all updates of a round; return weights, and Metrics averaged over them."""
    data = prepare(spec, config, weights, batch)
    before = weights
    history = []
    for first in range(0, config.num_updates, config.policy_delay):
        group = slice(first, first + config.policy_delay)
        rows = Batch(*(x[group] for x in data)), Noise(*(x[group] for x in noise))
        weights, metrics = update(spec, config, weights, *rows)
        history.append(metrics)
    if config.normalize_obs:  # D9
        # The statistics of the whole round merge into those that it started with.
        rows = np.asarray(batch.obs, np.float64).reshape(-1, batch.obs.shape[-1])
        weights = {**weights, **merge_stats(before, "obs_moments", rows)}
    return weights, Metrics(*np.mean(history, axis=0))
