"""Building blocks of the oracles in plain float64 NumPy: networks with gradients, Adam, statistics.

Weights are canonical dictionaries; no function changes its arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tiebreak.core.types import LARGEST, EnvSpec

Weights = Mapping[str, np.ndarray]
BETA1, BETA2 = 0.9, 0.999


def to_float64(weights: Weights) -> dict[str, np.ndarray]:
    """Convert a canonical dictionary to float64; counts keep their type."""
    return {
        k: np.array(v, np.float64 if np.issubdtype(v.dtype, np.floating) else v.dtype)
        for k, v in weights.items()
    }


def activate(x: np.ndarray, activation: str) -> np.ndarray:
    """Return tanh, ReLU, ELU or SiLU of x."""
    if activation == "elu":
        return np.where(x > 0, x, np.exp(np.minimum(x, 0.0)) - 1.0)
    if activation == "silu":
        return x * sigmoid(x)
    return np.tanh(x) if activation == "tanh" else np.maximum(x, 0.0)


def activation_slope(x: np.ndarray, activation: str) -> np.ndarray:
    """Return the derivative of an activation at x."""
    if activation == "elu":
        return np.where(x > 0, 1.0, np.exp(np.minimum(x, 0.0)))
    if activation == "silu":
        return sigmoid(x) * (1.0 + x * sigmoid(-x))
    return 1.0 - np.tanh(x) ** 2 if activation == "tanh" else (x > 0).astype(float)


def mlp(weights: Weights, name: str, x: np.ndarray, activation: str):
    """Return the output [B, out] for x [B, in], and the cache for `mlp_backward`.

    The cache has every layer's input, and its sums before the activation.
    """
    layers = count_layers(weights, name)
    cache = []
    for i in range(layers):
        sums = x @ weights[f"{name}/{i}/kernel"] + weights[f"{name}/{i}/bias"]
        cache.append((x, sums))
        x = activate(sums, activation)
    return sums, cache


def count_layers(weights: Weights, name: str) -> int:
    """Return the number of dense layers, which are called 0, 1, 2, …"""
    layers = 0
    while f"{name}/{layers}/kernel" in weights:
        layers += 1
    return layers


def mlp_backward(weights: Weights, name: str, cache: list, d_out: np.ndarray, activation: str):
    """Return d loss / d kernel and bias of every layer by name; `d_out` is d loss / d output."""
    grads = {}
    for i in reversed(range(len(cache))):
        x, sums = cache[i]
        if i < len(cache) - 1:
            d_out = d_out * activation_slope(sums, activation)
        grads[f"{name}/{i}/kernel"] = x.T @ d_out
        grads[f"{name}/{i}/bias"] = d_out.sum(axis=0)
        d_out = d_out @ weights[f"{name}/{i}/kernel"].T
    return grads


def mlp_input_gradient(
    weights: Weights, name: str, cache: list, d_out: np.ndarray, activation: str
) -> np.ndarray:
    """Return d loss / d x [B, in], the network's input; `d_out` is d loss / d output [B, out]."""
    for i in reversed(range(len(cache))):
        _, sums = cache[i]
        if i < len(cache) - 1:
            d_out = d_out * activation_slope(sums, activation)
        d_out = d_out @ weights[f"{name}/{i}/kernel"].T
    return d_out


def layer_norm_mlp(weights: Weights, name: str, x: np.ndarray):
    """Apply dense, LayerNorm (ε 1e-5, biased variance), tanh, then dense layers with ELU between.

    Returns the output [B, out] for x [B, in], and the cache for `layer_norm_mlp_backward`.
    """
    layers = count_layers(weights, name)
    cache, normed = [], None
    for i in range(layers):
        sums = x @ weights[f"{name}/{i}/kernel"] + weights[f"{name}/{i}/bias"]
        if i == 0:
            sums, normed = layer_norm(weights, f"{name}/norm", sums)
        cache.append((x, sums))
        x = activate(sums, "elu" if i > 0 else "tanh")
    return sums, (cache, normed)


def layer_norm_mlp_backward(weights: Weights, name: str, cache: tuple, d_out: np.ndarray):
    """Return d loss / d weight of every layer by name; `d_out` is d loss / d output [B, out]."""
    layers, normed = cache
    grads = {}
    for i in reversed(range(len(layers))):
        x, sums = layers[i]
        if i < len(layers) - 1:
            d_out = d_out * activation_slope(sums, "elu" if i > 0 else "tanh")
        if i == 0:
            norm_grads, d_out = layer_norm_backward(weights, f"{name}/norm", normed, d_out)
            grads.update(norm_grads)
        grads[f"{name}/{i}/kernel"] = x.T @ d_out
        grads[f"{name}/{i}/bias"] = d_out.sum(axis=0)
        d_out = d_out @ weights[f"{name}/{i}/kernel"].T
    return grads


def layer_norm(weights: Weights, name: str, x: np.ndarray):
    """Normalize x […, D] over its last axis (ε 1e-5, biased variance); return it and its cache."""
    root = np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
    unit = (x - x.mean(axis=-1, keepdims=True)) / root
    return unit * weights[f"{name}/scale"] + weights[f"{name}/bias"], (unit, root)


def layer_norm_backward(weights: Weights, name: str, cache: tuple, d_out: np.ndarray):
    """Return d loss / d weight by name, and d loss / d x."""
    unit, root = cache
    rows = tuple(range(d_out.ndim - 1))
    grads = {f"{name}/scale": (d_out * unit).sum(axis=rows), f"{name}/bias": d_out.sum(axis=rows)}
    d_unit = d_out * weights[f"{name}/scale"]
    # Mean and variance of a row depend on it, too.
    parallel = (d_unit * unit).mean(axis=-1, keepdims=True) * unit
    return grads, (d_unit - d_unit.mean(axis=-1, keepdims=True) - parallel) / root


def softplus(x: np.ndarray) -> np.ndarray:
    """Return log(1 + eˣ)."""
    return np.logaddexp(0.0, x)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return the derivative of softplus."""
    return np.exp(-np.logaddexp(0.0, -x))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log π over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return π over the last axis."""
    return np.exp(log_softmax(logits))


def project_distribution(
    probs: np.ndarray, values: np.ndarray, low: float, high: float
) -> np.ndarray:
    """Project mass `probs` at `values` in [low, high], both [B, K], onto K even atoms.

    Each mass is divided between the two atoms around it, in proportion to nearness (Bellemare et
    al. 2017, algorithm 1).
    """
    place = (values - low) / (high - low) * (probs.shape[1] - 1)
    below = np.clip(np.floor(place).astype(int), 0, probs.shape[1] - 2)
    out = np.zeros_like(probs)
    rows = np.arange(len(probs))[:, None]
    np.add.at(out, (rows, below), probs * (1.0 - (place - below)))
    np.add.at(out, (rows, below + 1), probs * (place - below))
    return out


def merge_stats(weights: Weights, name: str, x: np.ndarray) -> dict[str, np.ndarray]:
    """Merge the rows of `x` into the running statistics `name` (Chan et al. 1983)."""
    x = np.clip(x, -LARGEST, LARGEST)
    count, mean, var = (weights[f"{name}/{k}"] for k in ("count", "mean", "var"))
    new_count, new_mean, new_var = float(len(x)), x.mean(axis=0), x.var(axis=0)
    total = count + new_count
    delta = new_mean - mean
    spread = delta**2 * count * new_count / total**2
    return {
        f"{name}/count": np.asarray(total),
        f"{name}/mean": mean + delta * new_count / total,
        f"{name}/var": (var * count + new_var * new_count) / total + spread,
    }


def normalize_obs(spec: EnvSpec, config: Any, weights: Weights, x: np.ndarray) -> np.ndarray:
    """Normalize x […, O] by the statistics in `weights`, if configured; else scale pixels."""
    if not config.normalize_obs:
        return x / 255.0 if spec.pixels else x
    scaled = (x - weights["obs_moments/mean"]) / np.sqrt(weights["obs_moments/var"] + 1e-8)
    return np.clip(scaled, -10.0, 10.0)


def clip_by_norm(grads: Weights, max_norm: float) -> tuple[dict[str, np.ndarray], float]:
    """Scale gradients to a global norm of at most `max_norm` (0: any); also return the old norm."""
    norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
    scale = max_norm / max(norm, max_norm) if max_norm else 1.0
    return {name: g * scale for name, g in grads.items()}, norm


def adam(
    weights: Weights,
    grads: Weights,
    rate: float,
    eps: float,
    count: str = "adam/count",
    beta2: float = BETA2,
) -> dict[str, np.ndarray]:
    """Take one step of Adam (Kingma & Ba 2015), with ε added to the bias-corrected √v.

    Returns weights, moments and count. `count` is the canonical name of the optimizer's step count.
    """
    out = dict(weights)
    steps = weights[count] + np.int32(1)
    for name, g in grads.items():
        mu = BETA1 * weights[f"adam/mu/{name}"] + (1.0 - BETA1) * g
        nu = beta2 * weights[f"adam/nu/{name}"] + (1.0 - beta2) * g**2
        root = np.sqrt(nu / (1.0 - beta2**steps))
        out[name] = weights[name] - rate * mu / (1.0 - BETA1**steps) / (root + eps)
        out[f"adam/mu/{name}"] = mu
        out[f"adam/nu/{name}"] = nu
    return {**out, count: steps}


def radam(
    weights: Weights, grads: Weights, rate: float, eps: float, count: str = "adam/count"
) -> dict[str, np.ndarray]:
    """Take one step of RAdam (Liu et al. 2020, algorithm 2), with the threshold 5 of their code.

    Returns weights, moments and count, as `adam` does. ε is added to the bias-corrected √v.
    """
    out = dict(weights)
    steps = weights[count] + np.int32(1)
    longest = 2.0 / (1.0 - BETA2) - 1.0
    length = longest - 2.0 * steps * BETA2**steps / (1.0 - BETA2**steps)
    for name, g in grads.items():
        mu = BETA1 * weights[f"adam/mu/{name}"] + (1.0 - BETA1) * g
        nu = BETA2 * weights[f"adam/nu/{name}"] + (1.0 - BETA2) * g**2
        direction = mu / (1.0 - BETA1**steps)
        if length >= 5.0:  # the variance is known well enough to divide by it
            rectified = (length - 4.0) / (longest - 4.0) * (length - 2.0) / (longest - 2.0)
            root = np.sqrt(nu / (1.0 - BETA2**steps))
            direction = np.sqrt(rectified * longest / length) * direction / (root + eps)
        out[name] = weights[name] - rate * direction
        out[f"adam/mu/{name}"] = mu
        out[f"adam/nu/{name}"] = nu
    return {**out, count: steps}


def decay(weights: Weights, names: Iterable[str], share: float) -> dict[str, np.ndarray]:
    """Reduce the weights `names` by the factor 1 − `share` (Loshchilov & Hutter 2019)."""
    return {**weights, **{name: (1.0 - share) * weights[name] for name in names}}


def sgd(
    weights: Weights, grads: Weights, rate: float, count: str = "adam/count"
) -> dict[str, np.ndarray]:
    """Take one plain gradient step. Moments stay; the count, which schedules read, goes on."""
    out = {name: weights[name] - rate * g for name, g in grads.items()}
    return {**weights, **out, count: weights[count] + np.int32(1)}


def polyak(weights: Weights, names: Iterable[str], tau: float) -> dict[str, np.ndarray]:
    """Move `target/<name>` by the share `tau` towards `<name>`, for each of `names`."""
    moved = {f"target/{k}": (1.0 - tau) * weights[f"target/{k}"] + tau * weights[k] for k in names}
    return {**weights, **moved}
