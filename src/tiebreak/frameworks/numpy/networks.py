"""Networks of the oracles, with gradients: every kind of core.networks, in float64 NumPy.

`weights` is a canonical dictionary, `name` a network in it, x [B, inputs] its features.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from tiebreak.core.networks import GATES, Layers, convolutions, is_convolutional
from tiebreak.core.types import EnvSpec
from tiebreak.frameworks.numpy.ops import (
    Weights,
    activate,
    activation_slope,
    layer_norm,
    layer_norm_backward,
    layer_norm_mlp,
    layer_norm_mlp_backward,
    mlp,
    mlp_backward,
    mlp_input_gradient,
    sigmoid,
)


def forward(spec: EnvSpec, layers: Layers, weights: Weights, name: str, x: np.ndarray):
    """Return the outputs [B, outputs], and what `backward` needs."""
    if layers.kind == "layer_norm_mlp":
        return layer_norm_mlp(weights, name, x)
    if is_convolutional(layers.kind):
        return _cnn(spec, layers, weights, name, x)
    if layers.kind == "simba":
        return _simba(layers, weights, name, x)
    if layers.kind == "norm_mlp":
        return _norm_mlp(layers, weights, name, x)
    return mlp(weights, name, x, layers.activation)


def backward(
    spec: EnvSpec, layers: Layers, weights: Weights, name: str, cache: Any, d_out: np.ndarray
) -> dict[str, np.ndarray]:
    """Return d loss / d weight by name; `d_out` is d loss / d output [B, outputs]."""
    if layers.kind == "layer_norm_mlp":
        return layer_norm_mlp_backward(weights, name, cache, d_out)
    if is_convolutional(layers.kind):
        return _cnn_backward(spec, layers, weights, name, cache, d_out)
    if layers.kind == "simba":
        return _simba_backward(layers, weights, name, cache, d_out)[0]
    if layers.kind == "norm_mlp":
        return _norm_mlp_backward(layers, weights, name, cache, d_out)[0]
    return mlp_backward(weights, name, cache, d_out, layers.activation)


def action_gradient(
    spec: EnvSpec, layers: Layers, weights: Weights, name: str, cache: Any, d_out: np.ndarray
) -> np.ndarray:
    """Return d loss / d action [B, A] of a critic, whose features end with the action."""
    dense = cache.dense if is_convolutional(layers.kind) else cache
    if layers.kind == "simba":
        _, d_x = _simba_backward(layers, weights, name, cache, d_out)
    elif layers.kind in ("norm_mlp", "norm_cnn"):
        _, d_x = _norm_mlp_backward(layers, weights, name, dense, d_out)
    else:
        d_x = mlp_input_gradient(weights, name, dense, d_out, layers.activation)
    return d_x[:, -spec.action_size :]


def input_gradient(
    layers: Layers, weights: Weights, name: str, cache: Any, d_out: np.ndarray
) -> np.ndarray:
    """Return d loss / d x [B, inputs] of a network of dense layers, as heads are."""
    return mlp_input_gradient(weights, name, cache, d_out, layers.activation)


class _Step(NamedTuple):
    """Hold what the backward pass of one step of a gated recurrent unit needs."""

    before: np.ndarray
    """[N, H]: the state before the step, zero where an episode begins."""
    reset: np.ndarray
    update: np.ndarray
    candidate: np.ndarray
    of_state: np.ndarray
    """[N, H]: the state's part of the candidate, before the reset gate."""


def gru(
    layers: Layers,
    weights: Weights,
    name: str,
    x: np.ndarray,
    hidden: np.ndarray,
    begins: np.ndarray,
):
    """Return the states [T, N, H] of dense layers and a gated recurrent unit, and their cache.

    The cache has the input and the sums of every layer before the unit, and the unit's steps.

    Args:
      x: [T, N, inputs]
      hidden: [N, H], the state before the first step.
      begins: [T, N] bool, where the state before a step counts as zero.
    """
    unit = len(layers.sizes)  # the number of the layer of its state
    before_unit, steps, states = [], [], []
    for i in range(unit):
        sums = _dense(weights, f"{name}/{i}", x)
        before_unit.append((x, sums))
        x = activate(sums, layers.activation)
    for now, first in zip(sums, begins, strict=True):
        before = np.where(first[:, None], 0.0, hidden)
        products = _dense(weights, f"{name}/{unit}", before)
        (x_r, x_z, x_n), (h_r, h_z, h_n) = (np.split(p, GATES, axis=-1) for p in (now, products))
        reset, update = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
        candidate = np.tanh(x_n + reset * h_n)
        hidden = (1.0 - update) * candidate + update * before
        steps.append(_Step(before, reset, update, candidate, h_n))
        states.append(hidden)
    return np.stack(states), (before_unit, steps)


def gru_backward(
    layers: Layers,
    weights: Weights,
    name: str,
    cache: tuple,
    begins: np.ndarray,
    d_states: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return d loss / d weight by name, backwards through time; `d_states` is [T, N, H]."""
    before_unit, steps = cache
    unit = len(layers.sizes)
    recurrent = weights[f"{name}/{unit}/kernel"]
    d_kernel, d_bias = np.zeros_like(recurrent), np.zeros(recurrent.shape[1])
    d_inputs, d_later = [], np.zeros_like(d_states[0])
    for step, first, d_state in reversed(list(zip(steps, begins, d_states, strict=True))):
        d_hidden = d_state + d_later
        d_candidate = d_hidden * (1.0 - step.update) * (1.0 - step.candidate**2)
        d_update = d_hidden * (step.before - step.candidate) * step.update * (1.0 - step.update)
        d_reset = d_candidate * step.of_state * step.reset * (1.0 - step.reset)
        d_products = np.concatenate([d_reset, d_update, d_candidate * step.reset], axis=-1)
        d_kernel += step.before.T @ d_products
        d_bias += d_products.sum(axis=0)
        d_before = d_hidden * step.update + d_products @ recurrent.T
        d_later = np.where(first[:, None], 0.0, d_before)
        d_inputs.append(np.concatenate([d_reset, d_update, d_candidate], axis=-1))
    grads = {f"{name}/{unit}/kernel": d_kernel, f"{name}/{unit}/bias": d_bias}
    d_out = np.stack(d_inputs[::-1])
    for i in reversed(range(unit)):
        x, sums = before_unit[i]
        if i < unit - 1:
            d_out = d_out * activation_slope(sums, layers.activation)
        rows, d_rows = (a.reshape(-1, a.shape[-1]) for a in (x, d_out))
        grads[f"{name}/{i}/kernel"] = rows.T @ d_rows
        grads[f"{name}/{i}/bias"] = d_rows.sum(axis=0)
        d_out = d_out @ weights[f"{name}/{i}/kernel"].T
    return grads


class _Cache(NamedTuple):
    """Hold what a CNN's backward pass needs of its forward pass."""

    windows: list[np.ndarray]
    """For each convolution, the pixels [B, H, W, C, window, window] of every window."""
    sums: list[np.ndarray]
    """For each convolution, what its activation is of, [B, H, W, channels]."""
    norms: list[tuple]
    """For each convolution, the cache of its layer normalization, if it has one."""
    dense: list
    """Cache of the dense layers."""


def _cnn(spec: EnvSpec, layers: Layers, weights: Weights, name: str, x: np.ndarray):
    size = math.prod(spec.observation_shape)
    image = x[:, :size].reshape(-1, *spec.observation_shape)
    windows, all_sums, norms = [], [], []
    for i, conv in enumerate(convolutions(spec.observation_shape)):
        seen = np.lib.stride_tricks.sliding_window_view(image, (conv.window,) * 2, axis=(1, 2))
        seen = seen[:, :: conv.stride, :: conv.stride]
        kernel, bias = weights[f"{name}/conv/{i}/kernel"], weights[f"{name}/conv/{i}/bias"]
        sums = np.einsum("bhwcij,ijcf->bhwf", seen, kernel, optimize=True) + bias
        if layers.kind == "norm_cnn":
            sums, norm = layer_norm(weights, f"{name}/conv/{i}/norm", sums)
            norms.append(norm)
        image = activate(sums, layers.activation)
        windows.append(seen)
        all_sums.append(sums)
    rows = np.concatenate([image.reshape(len(image), -1), x[:, size:]], axis=1)
    if layers.kind == "norm_cnn":
        out, dense = _norm_mlp(layers, weights, name, rows)
    else:
        out, dense = mlp(weights, name, rows, layers.activation)
    return out, _Cache(windows, all_sums, norms, dense)


def _cnn_backward(
    spec: EnvSpec, layers: Layers, weights: Weights, name: str, cache: _Cache, d_out: np.ndarray
) -> dict[str, np.ndarray]:
    if layers.kind == "norm_cnn":
        grads, d_rows = _norm_mlp_backward(layers, weights, name, cache.dense, d_out)
    else:
        grads = mlp_backward(weights, name, cache.dense, d_out, layers.activation)
        d_rows = mlp_input_gradient(weights, name, cache.dense, d_out, layers.activation)
    convs, last = convolutions(spec.observation_shape), cache.sums[-1]
    d_image = d_rows[:, : last[0].size].reshape(last.shape)
    for i in reversed(range(len(convs))):
        d_sums = d_image * activation_slope(cache.sums[i], layers.activation)
        if layers.kind == "norm_cnn":
            norm = f"{name}/conv/{i}/norm"
            norm_grads, d_sums = layer_norm_backward(weights, norm, cache.norms[i], d_sums)
            grads.update(norm_grads)
        grads[f"{name}/conv/{i}/kernel"] = np.einsum(
            "bhwcij,bhwf->ijcf", cache.windows[i], d_sums, optimize=True
        )
        grads[f"{name}/conv/{i}/bias"] = d_sums.sum(axis=(0, 1, 2))
        if i > 0:
            kernel = weights[f"{name}/conv/{i}/kernel"]
            d_image = _scatter(d_sums, kernel, convs[i].stride, cache.sums[i - 1].shape)
    return grads


def _norm_mlp(layers: Layers, weights: Weights, name: str, x: np.ndarray):
    """Return the outputs, and what every layer's backward pass needs; the last's is its input."""
    caches: list[Any] = []
    for i in range(len(layers.sizes)):
        normed, norm_cache = layer_norm(
            weights, f"{name}/{i}/norm", _dense(weights, f"{name}/{i}", x)
        )
        caches.append((x, norm_cache, normed))
        x = activate(normed, layers.activation)
    return _dense(weights, f"{name}/{len(layers.sizes)}", x), [*caches, x]


def _norm_mlp_backward(
    layers: Layers, weights: Weights, name: str, caches: list, d_out: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return d loss / d weight by name, and d loss / d x."""
    *hidden_caches, x = caches
    grads, d_x = _dense_backward(weights, f"{name}/{len(hidden_caches)}", x, d_out)
    for i in reversed(range(len(hidden_caches))):
        x, norm_cache, normed = hidden_caches[i]
        d_normed = d_x * activation_slope(normed, layers.activation)
        norm_grads, d_y = layer_norm_backward(weights, f"{name}/{i}/norm", norm_cache, d_normed)
        dense_grads, d_x = _dense_backward(weights, f"{name}/{i}", x, d_y)
        grads = {**grads, **norm_grads, **dense_grads}
    return grads, d_x


def _scatter(
    d_sums: np.ndarray, kernel: np.ndarray, stride: int, shape: tuple[int, ...]
) -> np.ndarray:
    """Return d loss / d pixel, an image of `shape`: every window adds to the pixels that it saw."""
    out = np.zeros(shape)
    height, width = d_sums.shape[1:3]
    for i, row in enumerate(kernel):
        for j, matrix in enumerate(row):  # [C, channels]
            rows = slice(i, i + stride * height, stride)
            columns = slice(j, j + stride * width, stride)
            out[:, rows, columns] += d_sums @ matrix.T
    return out


def _simba(layers: Layers, weights: Weights, name: str, x: np.ndarray):
    """Return the outputs, and of every step of the forward pass what its backward pass needs."""
    caches: list[Any] = [x]
    x = _dense(weights, f"{name}/0", x)
    for i in range(len(layers.sizes)):
        block = f"{name}/block/{i}"
        normed, norm_cache = layer_norm(weights, f"{block}/norm", x)
        sums = _dense(weights, f"{block}/0", normed)
        caches.append((norm_cache, normed, sums))
        x = x + _dense(weights, f"{block}/1", activate(sums, layers.activation))
    normed, norm_cache = layer_norm(weights, f"{name}/norm", x)
    caches.append((norm_cache, normed))
    return _dense(weights, f"{name}/1", normed), caches


def _simba_backward(
    layers: Layers, weights: Weights, name: str, caches: list, d_out: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return d loss / d weight by name, and d loss / d x."""
    grads: dict[str, np.ndarray] = {}

    def dense(layer: str, x: np.ndarray, d_y: np.ndarray) -> np.ndarray:
        dense_grads, d_x = _dense_backward(weights, layer, x, d_y)
        grads.update(dense_grads)
        return d_x

    def norm(layer: str, cache: tuple, d_y: np.ndarray) -> np.ndarray:
        norm_grads, d_x = layer_norm_backward(weights, layer, cache, d_y)
        grads.update(norm_grads)
        return d_x

    norm_cache, normed = caches[-1]
    d_x = norm(f"{name}/norm", norm_cache, dense(f"{name}/1", normed, d_out))
    for i in reversed(range(len(layers.sizes))):
        block = f"{name}/block/{i}"
        norm_cache, normed, sums = caches[1 + i]
        d_hidden = dense(f"{block}/1", activate(sums, layers.activation), d_x)
        d_sums = d_hidden * activation_slope(sums, layers.activation)
        d_x = d_x + norm(f"{block}/norm", norm_cache, dense(f"{block}/0", normed, d_sums))
    return grads, dense(f"{name}/0", caches[0], d_x)


def _dense(weights: Weights, name: str, x: np.ndarray) -> np.ndarray:
    return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]


def _dense_backward(weights: Weights, name: str, x: np.ndarray, d_y: np.ndarray):
    """Return d loss / d weight by name, and d loss / d x."""
    grads = {f"{name}/kernel": x.T @ d_y, f"{name}/bias": d_y.sum(axis=0)}
    return grads, d_y @ weights[f"{name}/kernel"].T
