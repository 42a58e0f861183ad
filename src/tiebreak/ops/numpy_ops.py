"""What every oracle is made of, in plain float64 NumPy: networks with gradients, moments, Adam.

Weights are canonical dictionaries; no function changes what it is given.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Weights = Mapping[str, np.ndarray]
BETA1, BETA2 = 0.9, 0.999


def to_float64(weights: Weights) -> dict[str, np.ndarray]:
    """The canonical dictionary in float64, counts as they are."""
    return {
        k: np.array(v, np.float64 if np.issubdtype(v.dtype, np.floating) else v.dtype)
        for k, v in weights.items()
    }


def mlp(weights: Weights, name: str, x: np.ndarray, activation: str):
    """x [B, in] -> output [B, out], and the input of every layer for `mlp_backward`."""
    layers = sum(k.startswith(f"{name}/") and k.endswith("/kernel") for k in weights)
    inputs = []
    for i in range(layers):
        inputs.append(x)
        x = x @ weights[f"{name}/{i}/kernel"] + weights[f"{name}/{i}/bias"]
        if i < layers - 1:
            x = np.tanh(x) if activation == "tanh" else np.maximum(x, 0.0)
    return x, inputs


def mlp_backward(weights: Weights, name: str, inputs: list, d_out: np.ndarray, activation: str):
    """d loss / d output [B, out] -> d loss / d kernel and bias of every layer, by name."""
    grads = {}
    for i in reversed(range(len(inputs))):
        x = inputs[i]  # for i > 0 also the activation of the layer before
        grads[f"{name}/{i}/kernel"] = x.T @ d_out
        grads[f"{name}/{i}/bias"] = d_out.sum(axis=0)
        slope = 1.0 - x**2 if activation == "tanh" else (x > 0).astype(float)
        d_out = (d_out @ weights[f"{name}/{i}/kernel"].T) * slope
    return grads


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """log π over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def merge_moments(weights: Weights, name: str, x: np.ndarray) -> dict[str, np.ndarray]:
    """The running moments `name` after taking in the rows of `x` (Chan et al.)."""
    c, a, v = (weights[f"{name}/{k}"] for k in ("count", "mean", "var"))
    n, b, w = float(len(x)), x.mean(axis=0), x.var(axis=0)
    t = c + n
    mean, var = a + (b - a) * n / t, (v * c + w * n) / t + (b - a) ** 2 * c * n / t**2
    return {f"{name}/count": np.asarray(t), f"{name}/mean": mean, f"{name}/var": var}


def adam(weights: Weights, grads: Weights, rate: float, eps: float) -> dict[str, np.ndarray]:
    """One step of Adam (Kingma & Ba 2015): weights, moments and count; ε joins the corrected √v."""
    out, count = dict(weights), weights["adam/count"] + np.int32(1)
    for name, g in grads.items():
        mu = BETA1 * weights[f"adam/mu/{name}"] + (1.0 - BETA1) * g
        nu = BETA2 * weights[f"adam/nu/{name}"] + (1.0 - BETA2) * g**2
        root = np.sqrt(nu / (1.0 - BETA2**count))
        out[name] = weights[name] - rate * mu / (1.0 - BETA1**count) / (root + eps)
        out[f"adam/mu/{name}"], out[f"adam/nu/{name}"] = mu, nu
    return {**out, "adam/count": count}


def sgd(weights: Weights, grads: Weights, rate: float) -> dict[str, np.ndarray]:
    """One plain gradient step; Adam's moments stay, the count moves on (schedules read it)."""
    out = {name: weights[name] - rate * g for name, g in grads.items()}
    return {**weights, **out, "adam/count": weights["adam/count"] + np.int32(1)}
