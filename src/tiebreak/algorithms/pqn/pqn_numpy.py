"""PQN's oracle: the equations of README.md in plain float64 NumPy, written to be read.

It shares no arithmetic with the implementations, so that agreeing with it means something.
Its state is the canonical dictionary itself; no function changes its arguments. T, N, B, K as
in data.py.
"""

from __future__ import annotations

import numpy as np

from tiebreak.algorithms.pqn.config import Config
from tiebreak.algorithms.pqn.data import Act, LossTerms, Metrics, Minibatch, Noise, Rollout
from tiebreak.core.types import EnvSpec
from tiebreak.frameworks.numpy import networks
from tiebreak.frameworks.numpy.ops import (
    Weights,
    adam,
    clip_by_norm,
    merge_stats,
    normalize_obs,
    radam,
    sgd,
)


def trained(weights: Weights) -> list[str]:
    """Return the canonical names of what the optimizer changes."""
    return [k for k in weights if k.startswith("q/")]


# --- acting ---------------------------------------------------------------------------------------


def features(spec: EnvSpec, config: Config, weights: Weights, obs: np.ndarray) -> np.ndarray:
    """Flatten obs [..., *observation_shape] to [rows, O]; normalize it if configured (D10)."""
    x = np.asarray(obs, np.float64).reshape(-1, spec.observation_size)
    return normalize_obs(spec, config, weights, x)


def epsilon(config: Config, count: int) -> float:
    """Return the share of random actions after `count` updates (D1)."""
    iteration = int(count) // config.updates_per_iteration
    done = min(1.0, iteration / max(1.0, config.exploration_fraction * config.num_iterations))
    return (1.0 - done) * config.epsilon_start + done * config.epsilon_end


def act(spec: EnvSpec, config: Config, weights: Weights, obs: np.ndarray, noise: np.ndarray) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, 2]; zero noise is greedy (D1)."""
    rows = features(spec, config, weights, obs)
    q, _ = networks.forward(spec, config.layers, weights, "q", rows)
    share = epsilon(config, weights["adam/count"])
    action = []
    for values, (explore, place) in zip(q, noise, strict=True):
        if explore > 1.0 - share:
            action.append(int(place * spec.action_size))
        else:
            action.append(int(np.argmax(values)))
    return Act(np.array(action))


# --- preparing a rollout --------------------------------------------------------------------------


def lambda_returns(config: Config, rollout: Rollout, next_q: np.ndarray) -> np.ndarray:
    """Return the λ-returns [T, N], from the last step backwards (D2); next_q is [T, N, K]."""
    next_value = next_q.max(axis=-1)
    out = np.zeros_like(next_value)
    following = next_value[-1]  # nothing but its value is known of what follows the rollout
    for t in reversed(range(len(out))):
        mixed = (1.0 - config.q_lambda) * next_value[t] + config.q_lambda * following
        after = np.where(rollout.truncated[t], next_value[t], mixed)  # D3
        if config.truncation == "terminal":
            after = np.where(rollout.truncated[t], 0.0, after)
        after = np.where(rollout.terminated[t], 0.0, after)
        out[t] = config.reward_scale * rollout.reward[t] + config.gamma * after  # D9
        following = out[t]
    return out


def prepare(spec: EnvSpec, config: Config, weights: Weights, rollout: Rollout):
    """Return weights with updated statistics, and a Minibatch of all B = T · N rows."""
    rollout = Rollout(*(np.asarray(x, np.float64 if x.dtype.kind == "f" else x.dtype)
                        for x in rollout))  # fmt: skip
    next_obs = features(spec, config, weights, rollout.next_obs)
    next_q, _ = networks.forward(spec, config.layers, weights, "q", next_obs)
    target = lambda_returns(config, rollout, next_q.reshape(*rollout.reward.shape, -1))
    rows = Minibatch(
        obs=features(spec, config, weights, rollout.obs),
        action=rollout.action.reshape(-1),
        target=target.reshape(-1),
    )
    if config.normalize_obs:  # from the next iteration on
        raw = rollout.obs.reshape(len(rows.obs), -1)
        weights = {**weights, **merge_stats(weights, "obs_moments", raw)}
    return weights, rows


# --- the loss -------------------------------------------------------------------------------------


def gradients(spec: EnvSpec, config: Config, weights: Weights, batch: Minibatch):
    """Return LossTerms and d loss / d weight by name; the target is a constant."""
    q, cache = networks.forward(spec, config.layers, weights, "q", batch.obs)
    rows = np.arange(len(q))
    error = q[rows, batch.action] - batch.target
    d_q = np.zeros_like(q)
    d_q[rows, batch.action] = error / len(rows)  # D4
    grads = networks.backward(spec, config.layers, weights, "q", cache, d_q)
    terms = LossTerms(
        loss=0.5 * (error**2).mean(),
        q=q[rows, batch.action].mean(),
        target=batch.target.mean(),
    )
    return terms, grads


# --- the optimizer --------------------------------------------------------------------------------


def learning_rate(config: Config, count: int) -> float:
    """Return the step size after `count` updates (D6)."""
    if not config.anneal_lr:
        return config.learning_rate
    done = int(count) / (config.num_iterations * config.updates_per_iteration)
    return config.learning_rate * max(0.0, 1.0 - done)


def optimize(config: Config, weights: Weights, grads: Weights):
    """Clip by global norm, then step by RAdam, Adam or SGD (D5); return weights, norm before."""
    clipped, norm = clip_by_norm(grads, config.max_grad_norm)
    rate = learning_rate(config, weights["adam/count"])
    if config.optimizer == "sgd":
        return sgd(weights, clipped, rate), norm
    step_by = radam if config.optimizer == "radam" else adam
    return step_by(weights, clipped, rate, config.adam_eps), norm


def update(spec: EnvSpec, config: Config, weights: Weights, batch: Minibatch):
    """Take one gradient step; return weights and Metrics."""
    terms, grads = gradients(spec, config, weights, batch)
    weights, norm = optimize(config, weights, grads)
    return weights, Metrics(*terms, norm)


def step(spec: EnvSpec, config: Config, weights: Weights, rollout: Rollout, noise: Noise):
    """Run one iteration; return weights, and Metrics averaged over its updates."""
    weights, rows = prepare(spec, config, weights, rollout)
    history = []
    for order in noise.permutation:
        for picked in np.split(order, config.num_minibatches):
            batch = Minibatch(*(column[picked] for column in rows))
            weights, metrics = update(spec, config, weights, batch)
            history.append(metrics)
    return weights, Metrics(*(np.mean(column) for column in zip(*history, strict=True)))
