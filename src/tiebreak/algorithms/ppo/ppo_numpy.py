"""PPO's oracle: the equations of README.md in plain float64 NumPy, written to be read.

It shares no arithmetic with the implementations, so that agreeing with it means something.
Its state is the canonical dictionary itself; no function changes its arguments. T, N, B, A as
in data.py, O is the observation size, P the width of the policy's output. Behind a recurrent
network, features of policy and value are the states of its memory (D14).
"""

from __future__ import annotations

import numpy as np

from tiebreak.algorithms.ppo.config import Config
from tiebreak.algorithms.ppo.data import (
    Act,
    LossTerms,
    Metrics,
    Minibatch,
    Noise,
    RecurrentAct,
    RecurrentRollout,
    Rollout,
    Sequences,
)
from tiebreak.core.memory import Memory
from tiebreak.core.networks import heads
from tiebreak.core.types import EnvSpec
from tiebreak.frameworks.numpy import networks
from tiebreak.frameworks.numpy.ops import (
    Weights,
    adam,
    clip_by_norm,
    log_softmax,
    merge_stats,
    sgd,
)

LOG_2PI = np.log(2 * np.pi)


def trained(weights: Weights) -> list[str]:
    """Return the canonical names of what the optimizer changes."""
    return [k for k in weights if k.startswith(("actor/", "critic/", "memory/"))]


# --- networks -------------------------------------------------------------------------------------


def forward(spec: EnvSpec, config: Config, weights: Weights, x: np.ndarray):
    """Return logits or mean [B, P], and value [B], for features [B, O], or states [B, H]."""
    seen, layers = heads(spec, config.layers)
    out, _ = networks.forward(seen, layers, weights, "actor", x)
    value, _ = networks.forward(seen, layers, weights, "critic", x)
    return out, value[:, 0]


def remember(config: Config, weights: Weights, x: np.ndarray, hidden, begins):
    """Return the states [T, N, H] of the memory for features [T, N, O], and their cache (D14)."""
    return networks.gru(config.layers, weights, "memory", x, hidden, begins)


def episode_begins(rollout: RecurrentRollout) -> np.ndarray:
    """Return [T, N]: True where an episode begins with the step (D16)."""
    ended = rollout.terminated | rollout.truncated
    return np.stack([rollout.begins, *ended[:-1]])


def states(spec: EnvSpec, config: Config, weights: Weights, rollout: RecurrentRollout):
    """Return the states [T, N, H] that the policy acted from."""
    x = normalize_obs(spec, config, weights, rollout.obs)
    x = x.reshape(*rollout.reward.shape, -1)
    return remember(config, weights, x, rollout.hidden, episode_begins(rollout))[0]


def log_prob_entropy(spec: EnvSpec, weights: Weights, out: np.ndarray, action: np.ndarray):
    """Return log π(action) [B] and the entropy [B]; `out` is logits or mean [B, P]."""
    if spec.discrete:
        log_prob, entropy = np.zeros((2, len(out)))
        for logits, chosen in zip(choices(spec, out), action.reshape(len(out), -1).T, strict=True):
            log_p = log_softmax(logits)
            log_prob = log_prob + log_p[np.arange(len(out)), chosen.astype(int)]
            entropy = entropy - (np.exp(log_p) * log_p).sum(axis=-1)
        return log_prob, entropy
    log_std = weights["actor/log_std"]
    z = (action - out) / np.exp(log_std)
    log_prob = (-0.5 * z**2 - log_std - 0.5 * LOG_2PI).sum(axis=-1)
    return log_prob, np.full(len(out), (0.5 + 0.5 * LOG_2PI + log_std).sum())


def choices(spec: EnvSpec, out: np.ndarray) -> list[np.ndarray]:
    """Return the part of [B, P] that belongs to each discrete choice; one has all (D13)."""
    sizes = [out.shape[-1]] if spec.nvec is None else spec.nvec
    return np.split(out, np.cumsum(sizes)[:-1], axis=-1)


# --- acting ---------------------------------------------------------------------------------------


def normalize_obs(spec: EnvSpec, config: Config, weights: Weights, obs: np.ndarray) -> np.ndarray:
    """Flatten obs [..., *observation_shape] to [rows, O]; normalize it if configured (D10)."""
    x = np.asarray(obs, np.float64).reshape(-1, spec.observation_size)
    if not config.normalize_obs:
        return x / 255.0 if spec.pixels else x
    scaled = (x - weights["obs_moments/mean"]) / np.sqrt(weights["obs_moments/var"] + 1e-8)
    return np.clip(scaled, -10.0, 10.0)


def act(
    spec: EnvSpec,
    config: Config,
    weights: Weights,
    obs: np.ndarray,
    noise: np.ndarray,
    memory: Memory | None = None,
) -> Act | RecurrentAct:
    """Choose actions for obs [N, *obs] and noise [N, A]; zero noise is greedy (D1)."""
    x = normalize_obs(spec, config, weights, obs)
    if memory is not None:
        x = remember(config, weights, x[None], memory.hidden, memory.begins[None])[0][0]
    out, value = forward(spec, config, weights, x)
    if spec.discrete:
        best = [np.argmax(part, axis=-1) for part in choices(spec, out + noise)]
        raw = action = best[0] if spec.nvec is None else np.stack(best, axis=-1)
    else:
        raw = out + np.exp(weights["actor/log_std"]) * noise
        low, high = np.array(spec.action_low), np.array(spec.action_high)
        action = low + (np.clip(raw, -1.0, 1.0) + 1.0) / 2.0 * (high - low)  # D3
    log_prob, _ = log_prob_entropy(spec, weights, out, raw)
    acted = Act(action, raw, log_prob, value)
    return acted if memory is None else RecurrentAct(*acted, hidden=x)


# --- preparing a rollout --------------------------------------------------------------------------


def scale_rewards(config: Config, weights: Weights, rollout: Rollout):
    """Divide rewards [T, N] by the running std of the discounted return (D11).

    Returns the scaled rewards and the canonical entries that changed.
    """
    goes_on = ~(rollout.terminated | rollout.truncated)
    g = weights["running_return"]
    returns = []
    for reward, on in zip(rollout.reward, goes_on, strict=True):
        returns.append(config.gamma * g + reward)
        g = on * returns[-1]  # the next episode starts from 0
    changed = merge_stats(weights, "return_moments", np.reshape(returns, -1))
    scale = np.sqrt(changed["return_moments/var"] + 1e-8)
    changed["running_return"] = g
    return np.clip(rollout.reward / scale, -10.0, 10.0), changed


def advantages(config: Config, rollout: Rollout, reward, next_value) -> np.ndarray:
    """Return generalized advantage estimates [T, N], from the last step backwards (D4)."""
    goes_on = ~(rollout.terminated | rollout.truncated)
    bootstraps = goes_on if config.truncation == "terminal" else ~rollout.terminated
    delta = reward + config.gamma * bootstraps * next_value - rollout.value
    out, following = np.zeros_like(delta), 0.0
    for t in reversed(range(len(delta))):
        following = delta[t] + config.gamma * config.gae_lambda * goes_on[t] * following
        out[t] = following
    return out


def prepare(spec: EnvSpec, config: Config, weights: Weights, rollout: Rollout | RecurrentRollout):
    """Return weights with updated statistics, and a Minibatch of all B = T · N rows, or Sequences.

    Sequences are of all N environments.
    """
    rollout = type(rollout)(*(np.asarray(x, np.float64 if x.dtype.kind == "f" else x.dtype)
                              for x in rollout))  # fmt: skip
    obs = normalize_obs(spec, config, weights, rollout.obs)
    next_obs = normalize_obs(spec, config, weights, rollout.next_obs)
    if isinstance(rollout, RecurrentRollout):
        next_obs = next_states(spec, config, weights, rollout, next_obs)
    next_value = forward(spec, config, weights, next_obs)[1].reshape(rollout.value.shape)  # D2
    reward, changed = rollout.reward, {}
    if config.normalize_reward:
        reward, changed = scale_rewards(config, weights, rollout)
    if config.normalize_obs:  # from the next iteration on
        rows = rollout.obs.reshape(len(obs), -1)
        changed.update(merge_stats(weights, "obs_moments", rows))
    advantage = advantages(config, rollout, reward, next_value)
    columns = (rollout.action, rollout.log_prob, rollout.value, advantage)
    action, log_prob, value, advantage = (x.reshape(len(obs), *x.shape[2:]) for x in columns)
    rows = Minibatch(obs, action, log_prob, value, advantage, advantage + value)
    if isinstance(rollout, RecurrentRollout):
        rows = by_environment(rows, rollout)
    return {**weights, **changed}, rows


def next_states(
    spec: EnvSpec, config: Config, weights: Weights, rollout: RecurrentRollout, next_obs: np.ndarray
) -> np.ndarray:
    """Return the states [T · N, H] for features of the next observations [T · N, O].

    Each is of the memory after its step, before any reset (D16).
    """
    before = states(spec, config, weights, rollout).reshape(len(next_obs), -1)
    nowhere = np.zeros((1, len(before)), bool)
    return remember(config, weights, next_obs[None], before, nowhere)[0][0]


def by_environment(rows: Minibatch, rollout: RecurrentRollout) -> Sequences:
    """Return rows [T · N] as whole environments [N, T] (D16)."""
    shape = rollout.reward.shape
    columns = (np.swapaxes(x.reshape(*shape, *x.shape[1:]), 0, 1) for x in rows)
    return Sequences(*columns, hidden=rollout.hidden, begins=episode_begins(rollout).T)


# --- the loss and its gradient --------------------------------------------------------------------


def gradients(spec: EnvSpec, config: Config, weights: Weights, batch: Minibatch | Sequences):
    """Return LossTerms and d loss / d weight by name; advantage and target are constants."""
    if isinstance(batch, Sequences):
        return recurrent_gradients(spec, config, weights, batch)
    terms, grads, _ = head_gradients(spec, config, weights, batch)
    return terms, grads


def recurrent_gradients(spec: EnvSpec, config: Config, weights: Weights, batch: Sequences):
    """Return LossTerms and gradients of a recurrent network, back through time."""
    obs, begins = np.swapaxes(batch.obs, 0, 1), batch.begins.T
    hidden, cache = remember(config, weights, obs, batch.hidden, begins)
    columns = (np.swapaxes(hidden, 0, 1), *batch[1:6])
    rows = Minibatch(*(x.reshape(-1, *x.shape[2:]) for x in columns))
    terms, grads, d_rows = head_gradients(spec, config, weights, rows)
    assert d_rows is not None, "a recurrent network has features"
    d_states = np.swapaxes(d_rows.reshape(*batch.begins.shape, -1), 0, 1)
    grads |= networks.gru_backward(config.layers, weights, "memory", cache, begins, d_states)
    return terms, grads


def head_gradients(spec: EnvSpec, config: Config, weights: Weights, batch: Minibatch):
    """Return LossTerms, d loss / d weight of policy and value, and d loss / d features [B, H].

    The last is None where these are observations.
    """
    spec, layers = heads(spec, config.layers)
    out, actor_cache = networks.forward(spec, layers, weights, "actor", batch.obs)
    value, critic_cache = networks.forward(spec, layers, weights, "critic", batch.obs)
    log_prob, entropy = log_prob_entropy(spec, weights, out, batch.action)
    policy_loss, d_log_prob, ratio = policy_term(config, log_prob, batch)
    value_loss, d_value = value_term(config, value[:, 0], batch)
    d_entropy = np.full(len(entropy), -config.entropy_coef / len(entropy))
    d_out, grads = policy_backward(spec, weights, out, batch.action, d_log_prob, d_entropy)
    grads.update(networks.backward(spec, layers, weights, "actor", actor_cache, d_out))
    d_value = (config.value_coef * d_value)[:, None]
    grads.update(networks.backward(spec, layers, weights, "critic", critic_cache, d_value))
    loss = policy_loss + config.value_coef * value_loss - config.entropy_coef * entropy.mean()
    approx_kl = (ratio - 1.0 - np.log(ratio)).mean()
    clip_fraction = (np.abs(ratio - 1.0) > config.clip).mean()
    terms = LossTerms(loss, policy_loss, value_loss, entropy.mean(), approx_kl, clip_fraction)
    d_features = None
    if config.recurrent:
        d_features = networks.input_gradient(layers, weights, "actor", actor_cache, d_out)
        d_features += networks.input_gradient(layers, weights, "critic", critic_cache, d_value)
    return terms, grads, d_features


def policy_term(config: Config, log_prob: np.ndarray, batch: Minibatch):
    """Return the policy loss, its derivative in log π(a) [B], and the ratio ρ [B]."""
    advantage = batch.advantage
    if config.normalize_advantage:
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)  # D5
    ratio = np.exp(log_prob - batch.log_prob)
    if config.drift == "dpo":
        drift, d_drift = dpo_drift(config, log_prob - batch.log_prob, advantage)
        slope = d_drift - advantage * ratio  # dρ / d log π = ρ
        return (drift - advantage * ratio).mean(), slope / len(ratio), ratio
    plain = -advantage * ratio
    clipped = -advantage * np.clip(ratio, 1.0 - config.clip, 1.0 + config.clip)
    inside = np.abs(ratio - 1.0) <= config.clip
    slope = np.where((plain >= clipped) | inside, -advantage * ratio, 0.0)  # dρ / d log π = ρ
    return np.maximum(plain, clipped).mean(), slope / len(ratio), ratio


def dpo_drift(config: Config, log_ratio: np.ndarray, advantage: np.ndarray):
    """Return DPO's drift and its derivative in log ρ, both [B] (D15)."""
    drift, slope = np.zeros((2, len(advantage)))
    for i, (change, a) in enumerate(zip(log_ratio, advantage, strict=True)):
        better = a >= 0.0
        scale = config.dpo_alpha if better else config.dpo_beta
        gain = np.expm1(change) * a if better else change * a
        d_gain = np.exp(change) * a if better else a
        excess = gain - scale * np.tanh(gain / scale)
        if excess > 0.0:
            drift[i] = excess
            slope[i] = np.tanh(gain / scale) ** 2 * d_gain
    return drift, slope


def value_term(config: Config, value: np.ndarray, batch: Minibatch):
    """Return the value loss and its derivative in V [B] (D6)."""
    plain = value - batch.target
    if not config.clip_value:
        return 0.5 * (plain**2).mean(), plain / len(value)
    change = value - batch.value
    clipped = batch.value + np.clip(change, -config.clip, config.clip) - batch.target
    inside = np.abs(change) <= config.clip
    slope = np.where(inside | (plain**2 >= clipped**2), plain, 0.0)
    return 0.5 * np.maximum(plain**2, clipped**2).mean(), slope / len(value)


def policy_backward(spec: EnvSpec, weights: Weights, out, action, d_log_prob, d_entropy):
    """Return d loss / d out [B, P], and d loss / d log_std by name.

    `d_log_prob` and `d_entropy` are d loss / d log π(a) and d loss / d entropy, both [B].
    """
    if spec.discrete:
        d_out = []
        for logits, chosen in zip(choices(spec, out), action.reshape(len(out), -1).T, strict=True):
            log_p = log_softmax(logits)
            p = np.exp(log_p)
            onehot = np.eye(logits.shape[-1])[chosen.astype(int)]
            entropy = -(p * log_p).sum(axis=-1, keepdims=True)
            d_logits = d_log_prob[:, None] * (onehot - p)
            d_out.append(d_logits - d_entropy[:, None] * p * (log_p + entropy))
        return np.concatenate(d_out, axis=-1), {}
    std = np.exp(weights["actor/log_std"])
    z = (action - out) / std
    d_log_std = (d_log_prob[:, None] * (z**2 - 1.0)).sum(axis=0) + d_entropy.sum()
    return d_log_prob[:, None] * z / std, {"actor/log_std": d_log_std}


# --- the optimizer --------------------------------------------------------------------------------


def learning_rate(config: Config, count: int) -> float:
    """Return the step size after `count` updates (D9)."""
    if not config.anneal_lr:
        return config.learning_rate
    iteration = int(count) // config.updates_per_iteration
    return config.learning_rate * max(0.0, 1.0 - iteration / config.num_iterations)


def optimize(config: Config, weights: Weights, grads: Weights):
    """Clip by global norm (D8), then step by Adam (D7) or SGD; return weights, norm before."""
    clipped, norm = clip_by_norm(grads, config.max_grad_norm)
    rate = learning_rate(config, weights["adam/count"])
    if config.optimizer == "sgd":
        return sgd(weights, clipped, rate), norm
    return adam(weights, clipped, rate, config.adam_eps), norm


def update(spec: EnvSpec, config: Config, weights: Weights, batch: Minibatch | Sequences):
    """Take one gradient step; return weights and Metrics."""
    terms, grads = gradients(spec, config, weights, batch)
    weights, norm = optimize(config, weights, grads)
    return weights, Metrics(*terms, norm)


def step(
    spec: EnvSpec,
    config: Config,
    weights: Weights,
    rollout: Rollout | RecurrentRollout,
    noise: Noise,
):
    """Run one iteration; return weights, and Metrics averaged over its updates."""
    weights, rows = prepare(spec, config, weights, rollout)
    history = []
    for order in noise.permutation:
        for picked in np.split(order, config.num_minibatches):
            batch = type(rows)(*(column[picked] for column in rows))
            weights, metrics = update(spec, config, weights, batch)
            history.append(metrics)
    return weights, Metrics(*(np.mean(column) for column in zip(*history, strict=True)))
