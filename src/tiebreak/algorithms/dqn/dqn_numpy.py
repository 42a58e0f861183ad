"""DQN's oracle: the equations of README.md in plain float64 NumPy, written to be read.

It shares no arithmetic with the implementations, so that agreeing with it means something.
Its state is the canonical dictionary itself; no function changes its arguments. U, B, N, K as
in data.py.
"""

from __future__ import annotations

import numpy as np

from tiebreak.algorithms.dqn.config import Config
from tiebreak.algorithms.dqn.data import Act, Batch, LossTerms, Metrics, Noise
from tiebreak.core.types import EnvSpec
from tiebreak.frameworks.numpy import networks
from tiebreak.frameworks.numpy.ops import (
    Weights,
    adam,
    clip_by_norm,
    log_softmax,
    merge_stats,
    normalize_obs,
    project_distribution,
    sgd,
    softmax,
)


def trained(weights: Weights) -> list[str]:
    """Return the canonical names of what the optimizer changes."""
    return [k for k in weights if k.startswith("q/")]


def epsilon(config: Config, count: int) -> float:
    """Return the share of random actions after `count` updates (D1)."""
    steps = config.learning_starts + count * config.round_steps / config.num_updates
    done = min(1.0, steps / (config.exploration_fraction * config.total_steps))
    return (1.0 - done) * config.epsilon_start + done * config.epsilon_end


def forward(spec: EnvSpec, config: Config, weights: Weights, network: str, x: np.ndarray):
    """Return values [B, A] of all actions, logits [B, A, K] of their returns, and the cache.

    Without distributions K is 1, and the logits are the values.
    """
    out, cache = networks.forward(spec, config.layers, weights, network, x)
    logits = out.reshape(len(x), spec.action_size, config.num_atoms)
    if config.num_atoms == 1:
        return out, logits, cache
    return softmax(logits) @ atoms(config), logits, cache  # D8


def atoms(config: Config) -> np.ndarray:
    """Return the possible returns [K] (D8)."""
    return np.linspace(config.v_min, config.v_max, config.num_atoms)


def act(spec: EnvSpec, config: Config, weights: Weights, obs: np.ndarray, noise: np.ndarray) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, 2]; zero noise is greedy (D1)."""
    rows = np.asarray(obs, np.float64).reshape(len(obs), -1)
    rows = normalize_obs(spec, config, weights, rows)
    q, _, _ = forward(spec, config, weights, "q", rows)
    share = epsilon(config, int(weights["adam/count"]))
    action = []
    for values, (explore, place) in zip(q, noise, strict=True):
        if explore > 1.0 - share:
            action.append(int(place * spec.action_size))
        else:
            action.append(int(np.argmax(values)))
    return Act(np.array(action), np.array(action))


def gradients(spec: EnvSpec, config: Config, weights: Weights, batch: Batch, noise: Noise):
    """Return LossTerms and d loss / d weight by name, for one update's batch of features."""
    del noise
    next_q, next_logits, _ = forward(spec, config, weights, "target/q", batch.next_obs)
    selector = next_q
    if config.double_q:  # D3
        selector, _, _ = forward(spec, config, weights, "q", batch.next_obs)
    rows = np.arange(len(next_q))
    best = selector.argmax(axis=-1)
    q, logits, cache = forward(spec, config, weights, "q", batch.obs)
    value, taken = q[rows, batch.action], logits[rows, batch.action]
    if config.num_atoms == 1:
        target = batch.reward + batch.discount * next_q[rows, best]
        loss = ((value - target) ** 2).mean()
        d_taken = 2.0 * (value - target)[:, None]  # D2
    else:
        distribution = shifted_distribution(config, next_logits[rows, best], batch)
        target = distribution @ atoms(config)
        loss = -(distribution * log_softmax(taken)).sum(axis=-1).mean()
        d_taken = softmax(taken) - distribution  # D8
    d_logits = np.zeros_like(logits)
    d_logits[rows, batch.action] = d_taken / len(rows)
    d_out = d_logits.reshape(len(rows), -1)
    grads = networks.backward(spec, config.layers, weights, "q", cache, d_out)
    return LossTerms(loss=loss, q=value.mean(), target=target.mean()), grads


def shifted_distribution(config: Config, logits: np.ndarray, batch: Batch) -> np.ndarray:
    """Return the distribution [B, K] of the reward plus the discounted return (D8)."""
    values = batch.reward[:, None] + batch.discount[:, None] * atoms(config)
    values = np.clip(values, config.v_min, config.v_max)
    return project_distribution(softmax(logits), values, config.v_min, config.v_max)


def update(spec: EnvSpec, config: Config, weights: Weights, batch: Batch, noise: Noise):
    """Take one gradient step, and copy the network into its target when that is due."""
    terms, grads = gradients(spec, config, weights, batch, noise)
    clipped, norm = clip_by_norm(grads, config.max_grad_norm)
    if config.optimizer == "sgd":
        weights = sgd(weights, clipped, config.learning_rate)
    else:
        weights = adam(weights, clipped, config.learning_rate, config.adam_eps)  # D5
    if weights["adam/count"] % config.target_period == 0:  # D4
        copies = {f"target/{k}": weights[k] for k in trained(weights)}
        weights = {**weights, **copies}
    return weights, Metrics(*terms, norm)


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
    for u in range(config.num_updates):
        rows = Batch(*(x[u] for x in data)), Noise(*(x[u] for x in noise))
        weights, metrics = update(spec, config, weights, *rows)
        history.append(metrics)
    if config.normalize_obs:  # D7
        # The statistics of the whole round merge into those that it started with.
        rows = np.asarray(batch.obs, np.float64).reshape(-1, batch.obs.shape[-1])
        weights = {**weights, **merge_stats(before, "obs_moments", rows)}
    return weights, Metrics(*(np.mean(column) for column in zip(*history, strict=True)))
