"""TD3's oracle: the equations of README.md in plain float64 NumPy, written to be read.

It shares no arithmetic with the implementations, so that agreeing with it means something.
Its state is the canonical dictionary itself; no function changes its arguments. U, B, N, A as
in data.py.
"""

from __future__ import annotations

import numpy as np

from tiebreak.algorithms.td3.config import Config
from tiebreak.algorithms.td3.data import (
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
    merge_stats,
    normalize_obs,
    polyak,
    sgd,
)


def trained(weights: Weights) -> list[str]:
    """Return the canonical names of what the optimizers change."""
    return [k for k in weights if k.split("/")[0] in ("actor", *CRITICS)]


def policy(spec: EnvSpec, config: Config, weights: Weights, name: str, obs: np.ndarray):
    """Return actions [B, A] in [-1, 1] for features [B, O], and the network's cache."""
    out, cache = networks.forward(spec, config.layers, weights, name, obs)
    return np.tanh(out), cache


def critic(
    spec: EnvSpec, config: Config, weights: Weights, name: str, obs: np.ndarray, action: np.ndarray
):
    """Return Q [B] for features [B, O] and actions [B, A], and the network's cache."""
    rows = np.concatenate([obs, action], axis=1)
    out, cache = networks.forward(spec, config.layers, weights, name, rows)
    return out[:, 0], cache


def act(spec: EnvSpec, config: Config, weights: Weights, obs: np.ndarray, noise: np.ndarray) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, A]; zero noise is greedy (D1)."""
    rows = np.asarray(obs, np.float64).reshape(len(obs), -1)
    greedy, _ = policy(spec, config, weights, "actor", normalize_obs(spec, config, weights, rows))
    raw = np.clip(greedy + config.exploration_noise * np.asarray(noise, np.float64), -1.0, 1.0)
    low, high = (np.array(bound) for bound in spec.bounds)
    return Act(low + (raw + 1.0) / 2.0 * (high - low), raw)


def targets(
    spec: EnvSpec, config: Config, weights: Weights, batch: Batch, noise: Noise
) -> np.ndarray:
    """Return the value [B] that both critics are moved towards (D2)."""
    c, sigma = config.noise_clip, config.target_noise
    smoothing = np.clip(sigma * np.asarray(noise.target, np.float64), -c, c)
    greedy, _ = policy(spec, config, weights, "target/actor", batch.next_obs)
    action = np.clip(greedy + smoothing, -1.0, 1.0)
    q1, q2 = (
        critic(spec, config, weights, f"target/{k}", batch.next_obs, action)[0] for k in CRITICS
    )
    return batch.reward + batch.discount * np.minimum(q1, q2)


def critic_gradients(
    spec: EnvSpec, config: Config, weights: Weights, batch: Batch, noise: Noise
) -> tuple[CriticTerms, dict[str, np.ndarray]]:
    """Return terms and d critic_loss / d weight by name, for one update's features (D3)."""
    y = targets(spec, config, weights, batch, noise)
    loss, means, grads = 0.0, [], {}
    for name in CRITICS:
        q, cache = critic(spec, config, weights, name, batch.obs, batch.action)
        loss += ((q - y) ** 2).mean()
        means.append(q.mean())
        d_q = 2.0 * (q - y)[:, None] / len(q)
        grads.update(networks.backward(spec, config.layers, weights, name, cache, d_q))
    return CriticTerms(loss, *means, y.mean()), grads


def actor_gradients(
    spec: EnvSpec, config: Config, weights: Weights, batch: Batch, noise: Noise
) -> tuple[ActorTerms, dict[str, np.ndarray]]:
    """Return terms and d actor_loss / d weight by name, for one update's features (D4)."""
    action, cache = policy(spec, config, weights, "actor", batch.obs)
    q, q_cache = critic(spec, config, weights, "critic1", batch.obs, action)
    d_q = np.full((len(q), 1), -1.0 / len(q))
    d_action = networks.action_gradient(spec, config.layers, weights, "critic1", q_cache, d_q)
    d_out = d_action * (1.0 - action**2)
    grads = networks.backward(spec, config.layers, weights, "actor", cache, d_out)
    return ActorTerms(-q.mean()), grads


def optimize(config: Config, weights: Weights, grads: Weights, rate: float, count: str):
    """Take a step of one of the two optimizers (D6); return weights and norm before."""
    clipped, norm = clip_by_norm(grads, config.max_grad_norm)
    if config.optimizer == "sgd":
        return sgd(weights, clipped, rate, count), norm
    return adam(weights, clipped, rate, config.adam_eps, count), norm


def update(spec: EnvSpec, config: Config, weights: Weights, batch: Batch, noise: Noise):
    """Update the critics `policy_delay` times, then the actor and all targets once (D5).

    Batch and noise have leading axes [policy_delay, B]. Returns weights and Metrics.
    """
    critic_metrics = []
    for u in range(config.policy_delay):
        row = Batch(*(x[u] for x in batch)), Noise(*(x[u] for x in noise))
        terms, grads = critic_gradients(spec, config, weights, *row)
        weights, norm = optimize(config, weights, grads, config.critic_lr, "adam/count")
        critic_metrics.append((*terms, norm))
    terms, grads = actor_gradients(spec, config, weights, *row)
    weights, norm = optimize(config, weights, grads, config.actor_lr, "adam/actor_count")
    weights = polyak(weights, trained(weights), config.tau)
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
    if config.normalize_obs:  # D7
        # The statistics of the whole round merge into those that it started with.
        rows = np.asarray(batch.obs, np.float64).reshape(-1, batch.obs.shape[-1])
        weights = {**weights, **merge_stats(before, "obs_moments", rows)}
    return weights, Metrics(*np.mean(history, axis=0))
