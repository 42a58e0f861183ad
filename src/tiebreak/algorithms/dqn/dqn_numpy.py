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
    merge_stats,
    normalize_obs,
    sgd,
)


def trained(weights: Weights) -> list[str]:
    """Return the canonical names of what the optimizer changes."""
    return [k for k in weights if k.startswith("q/")]


def epsilon(config: Config, count: int) -> float:
    """Return the share of random actions after `count` updates (D1)."""
    steps = config.learning_starts + count * config.round_steps / config.num_updates
    done = min(1.0, steps / (config.exploration_fraction * config.total_steps))
    return (1.0 - done) * config.epsilon_start + done * config.epsilon_end


def act(spec: EnvSpec, config: Config, weights: Weights, obs: np.ndarray, noise: np.ndarray) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, 2]; zero noise is greedy (D1)."""
    rows = np.asarray(obs, np.float64).reshape(len(obs), -1)
    rows = normalize_obs(spec, config, weights, rows)
    q, _ = networks.forward(spec, config.layers, weights, "q", rows)
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
    next_q, _ = networks.forward(spec, config.layers, weights, "target/q", batch.next_obs)
    selector = next_q
    if config.double_q:  # D3
        selector, _ = networks.forward(spec, config.layers, weights, "q", batch.next_obs)
    rows = np.arange(len(next_q))
    target = batch.reward + batch.discount * next_q[rows, selector.argmax(axis=-1)]
    q, cache = networks.forward(spec, config.layers, weights, "q", batch.obs)
    value = q[rows, batch.action]
    d_q = np.zeros_like(q)
    d_q[rows, batch.action] = 2.0 * (value - target) / len(rows)  # D2
    grads = networks.backward(spec, config.layers, weights, "q", cache, d_q)
    terms = LossTerms(loss=((value - target) ** 2).mean(), q=value.mean(), target=target.mean())
    return terms, grads


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
