"""MPO's oracle: the equations of README.md in plain float64 NumPy, written to be read.

It shares no arithmetic with the implementations but SciPy's SLSQP, which is the definition of
dual="slsqp". Its state is the canonical dictionary itself; no function changes its arguments.
Sizes as in data.py.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq

from tiebreak.algorithms.mpo.config import Config
from tiebreak.algorithms.mpo.data import Act, Batch, LossTerms, Metrics, Noise
from tiebreak.algorithms.mpo.dual_scipy import HIGHEST, LEAST_LOG, LOWEST, slsqp
from tiebreak.core.types import EnvSpec
from tiebreak.frameworks.numpy import networks
from tiebreak.frameworks.numpy.ops import (
    Weights,
    adam,
    clip_by_norm,
    merge_stats,
    normalize_obs,
    sgd,
    sigmoid,
    softplus,
)

LOG_2PI = np.log(2 * np.pi)


def trained(weights: Weights) -> list[str]:
    """Return the canonical names of what the optimizers change."""
    return [k for k in weights if k.startswith(("actor/", "critic1/", "critic2/", "dual/"))]


# --- the policy -----------------------------------------------------------------------------------


def policy(spec: EnvSpec, config: Config, weights: Weights, name: str, obs: np.ndarray):
    """Return mean, std and d std / d output, all [B, A], and the network's cache; obs [B, O]."""
    out, cache = networks.forward(spec, config.actor_layers, weights, name, obs)
    mean, raw = np.split(out, 2, axis=-1)
    scale = config.init_std / np.log(2.0)
    return mean, softplus(raw) * scale + 1e-6, sigmoid(raw) * scale, cache


def act(spec: EnvSpec, config: Config, weights: Weights, obs: np.ndarray, noise: np.ndarray) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, A]; zero noise is greedy (D1)."""
    rows = normalize_obs(spec, config, weights, np.asarray(obs, np.float64).reshape(len(obs), -1))
    mean, std, _, _ = policy(spec, config, weights, "actor", rows)
    raw = np.clip(mean + std * noise, -1.0, 1.0)
    low, high = (np.array(bound) for bound in spec.bounds)
    return Act(low + (raw + 1.0) / 2.0 * (high - low), raw)


# --- the E-step -----------------------------------------------------------------------------------


def reweight(values: np.ndarray, temperature: float):
    """Return weights [S, B] of values [S, B], and means of log mean exp((v − max v)/η) and KL."""
    scaled = (values - values.max(axis=0)) / temperature
    powers = np.exp(scaled)
    weights = powers / powers.sum(axis=0)
    log_mean = np.log(powers.mean(axis=0))
    return weights, log_mean.mean(), ((weights * scaled).sum(axis=0) - log_mean).mean()


def temperatures(config: Config, weights: Weights, values: np.ndarray) -> np.ndarray:
    """Return the temperature [M] of each objective; values [M, S, B] (D4)."""
    if config.dual == "gradient":
        return softplus(weights["dual/log_temperature"]) + 1e-8  # D8
    if config.dual == "slsqp":
        return slsqp(values, config.epsilons)
    return np.array([best_temperature(v, e) for v, e in zip(values, config.epsilons, strict=True)])


def best_temperature(values: np.ndarray, epsilon: float) -> float:
    """Find the minimum of the dual, where KL, which falls as η rises, is ε, by Brent's method."""

    def excess(log_temperature):
        return reweight(values, np.exp(log_temperature))[2] - epsilon

    low, high = np.log(LOWEST), np.log(HIGHEST)
    if excess(low) <= 0.0:
        return LOWEST
    if excess(high) >= 0.0:
        return HIGHEST
    return float(np.exp(brentq(excess, low, high, xtol=1e-14, rtol=1e-14)))


def sample_values(
    spec: EnvSpec, config: Config, weights: Weights, next_obs: np.ndarray, action: np.ndarray
):
    """Return the smallest target value [S, B] of actions [S, B, A], which are clipped (D2)."""
    clipped = np.clip(action, -1.0, 1.0)
    rows = [np.concatenate([next_obs, sample], axis=-1) for sample in clipped]
    layers = config.critic_layers

    def value(name: str, row: np.ndarray) -> np.ndarray:
        return networks.forward(spec, layers, weights, f"target/{name}", row)[0][:, 0]

    return np.min([[value(name, row) for row in rows] for name in config.critics], axis=0)


def objectives(config: Config, values: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Return the objectives [M, S, B]: Q, and minus the Euclidean distance out of bounds (D5)."""
    if not config.epsilon_penalty:
        return values[None]
    return np.stack([values, -np.linalg.norm(action - np.clip(action, -1.0, 1.0), axis=-1)])


# --- the losses and their gradients ---------------------------------------------------------------


def critic_gradients(
    spec: EnvSpec, config: Config, weights: Weights, batch: Batch, target: np.ndarray
):
    """Return loss, mean Q of the first critic and gradients, for the target [B] (D3)."""
    x = np.concatenate([batch.obs, batch.action], axis=-1)
    loss, means, grads, layers = 0.0, [], {}, config.critic_layers
    for name in config.critics:
        out, cache = networks.forward(spec, layers, weights, name, x)
        error = out[:, 0] - target
        loss += 0.5 * (error**2).mean()
        means.append(out.mean())
        d_out = error[:, None] / len(target)
        grads.update(networks.backward(spec, layers, weights, name, cache, d_out))
    return loss, means[0], grads


def policy_gradients(
    spec: EnvSpec, config: Config, weights: Weights, batch: Batch, action, improved
):
    """Return loss, both KLs [A] and gradients, for samples [S, B, A] of weight [S, B] (D6)."""
    old_mean, old_std, _, _ = policy(spec, config, weights, "target/actor", batch.next_obs)
    mean, std, d_std, cache = policy(spec, config, weights, "actor", batch.next_obs)
    rows, w = len(mean), improved[:, :, None]
    z_mean, z_std = (action - mean) / old_std, (action - old_mean) / std
    log_prob = -0.5 * z_mean**2 - 0.5 * z_std**2 - np.log(old_std) - np.log(std) - LOG_2PI
    kl_mean = 0.5 * (((mean - old_mean) / old_std) ** 2).mean(axis=0)
    kl_std = (np.log(std / old_std) + old_std**2 / (2.0 * std**2) - 0.5).mean(axis=0)
    alpha_mean, alpha_std = (
        softplus(weights[f"dual/log_alpha_{k}"]) + 1e-8 for k in ("mean", "std")
    )
    loss = -(w * log_prob).sum() / rows + (alpha_mean * kl_mean + alpha_std * kl_std).sum()
    d_mean = -(w * z_mean).sum(axis=0) / old_std + alpha_mean * (mean - old_mean) / old_std**2
    d_log_std = -(w * (z_std**2 - 1.0)).sum(axis=0) + alpha_std * (1.0 - (old_std / std) ** 2)
    d_out = np.concatenate([d_mean, d_log_std / std * d_std], axis=-1) / rows
    grads = networks.backward(spec, config.actor_layers, weights, "actor", cache, d_out)
    return loss, kl_mean, kl_std, grads


def dual_gradients(config: Config, weights: Weights, temperature, log_means, kls, kl_mean, kl_std):
    """Return the dual loss and its gradients.

    Temperature, log mean and KL [M] are of the E-step, `kl_mean` and `kl_std` [A] of the M-step.
    """
    bounds = np.array(config.epsilons)
    loss, grads = (temperature * (bounds + log_means)).sum(), {}
    if config.dual == "gradient":
        name = "dual/log_temperature"
        grads[name] = (bounds - kls) * sigmoid(weights[name])
    for part, kl in (("mean", kl_mean), ("std", kl_std)):
        name, slack = f"dual/log_alpha_{part}", getattr(config, f"epsilon_{part}") - kl
        loss += ((softplus(weights[name]) + 1e-8) * slack).sum()
        grads[name] = slack * sigmoid(weights[name])
    return loss, grads


def gradients(spec: EnvSpec, config: Config, weights: Weights, batch: Batch, noise: Noise):
    """Return LossTerms and d loss / d weight by name, for one update's batch of features."""
    old_mean, old_std, _, _ = policy(spec, config, weights, "target/actor", batch.next_obs)
    action = old_mean + old_std * noise.action
    value = sample_values(spec, config, weights, batch.next_obs, action)
    target = batch.reward + batch.discount * value.mean(axis=0)  # D2
    critic_loss, q, grads = critic_gradients(spec, config, weights, batch, target)
    values = objectives(config, value, action)
    temperature = temperatures(config, weights, values)
    reweighted = [reweight(v, t) for v, t in zip(values, temperature, strict=True)]
    improved, log_means, kls = (np.array(column) for column in zip(*reweighted, strict=True))
    actor_loss, *divergences, actor_grads = policy_gradients(
        spec, config, weights, batch, action, improved.sum(axis=0)
    )
    dual_loss, dual_grads = dual_gradients(
        config, weights, temperature, log_means, kls, *divergences
    )
    kl_mean, kl_std = divergences
    terms = LossTerms(
        loss=critic_loss + actor_loss + dual_loss,
        critic_loss=critic_loss,
        policy_loss=actor_loss,
        dual_loss=dual_loss,
        q=q,
        target=target.mean(),
        temperature=temperature[0],
        kl_q=kls[0],
        kl_mean=kl_mean.mean(),
        kl_std=kl_std.mean(),
    )
    return terms, {**grads, **actor_grads, **dual_grads}


# --- the update -----------------------------------------------------------------------------------


def update(spec: EnvSpec, config: Config, weights: Weights, batch: Batch, noise: Noise):
    """Take a step of each optimizer (D9); copy networks into their targets when due (D10)."""
    terms, grads = gradients(spec, config, weights, batch, noise)
    count, norms = weights["adam/count"], {}
    for group, names in config.groups.items():
        rate, max_norm = config.rates[group]
        group_grads = {k: g for k, g in grads.items() if k.partition("/")[0] in names}
        group_grads, norms[group] = clip_by_norm(group_grads, max_norm)
        weights = {**weights, "adam/count": count}  # one count: the optimizers step together
        if config.optimizer == "sgd":
            weights = sgd(weights, group_grads, rate)
        else:
            weights = adam(weights, group_grads, rate, config.adam_eps)
    weights.update({k: np.maximum(weights[k], LEAST_LOG) for k in weights if k.startswith("dual/")})
    if weights["adam/count"] % config.target_period == 0:
        copies = {f"target/{k}": weights[k] for k in trained(weights) if not k.startswith("dual/")}
        weights = {**weights, **copies}
    return weights, Metrics(*terms, norms["actor"], norms["critic"])


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
