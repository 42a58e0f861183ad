"""`.npz`: `layers` names the layers, their fields are arrays; docs/export.md has the reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tiebreak.export.layers import GreedyPolicy, to_arrays

Outputs = dict[str, np.ndarray]
"""`action`: int [N] or [N, choices], or [N, A] float32; for integers also `scores` in float32."""


def write(policy: GreedyPolicy, path: Path) -> None:
    """Write a policy's layers and metadata."""
    kinds, arrays = to_arrays(policy)
    np.savez(path, layers=np.array(kinds), **arrays, **policy.about)  # type: ignore[arg-type]


def run(path: Path, obs: np.ndarray) -> Outputs:
    """Return the actions that the file's policy chooses for observations [N, …]."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    return apply(arrays["layers"].tolist(), arrays, obs)


def apply(kinds: Sequence[str], arrays: Mapping[str, np.ndarray], obs: np.ndarray) -> Outputs:
    """Apply layers to observations, in the precision that they have."""
    scores, x, kept = obs, obs, obs
    for i, kind in enumerate(kinds):
        start = f"{i}."
        fields = {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
        if kind == "keep":
            kept = x
        elif kind == "add":
            x = x + kept
        else:
            scores, x = x, OPERATIONS[kind](x, **fields)
    return {"action": x, "scores": scores} if kinds[-1] in CHOOSING else {"action": x}


CHOOSING = ("argmax", "argmax_each")
"""Last layers of discrete actions, which take the scores."""


def _layer_norm(
    x: np.ndarray, scale: np.ndarray, bias: np.ndarray, epsilon: np.ndarray
) -> np.ndarray:
    centered = x - x.mean(-1, keepdims=True)
    return centered / np.sqrt((centered**2).mean(-1, keepdims=True) + epsilon) * scale + bias


def _conv(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, stride: np.ndarray) -> np.ndarray:
    step = int(stride)
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))
    return np.tensordot(windows[:, ::step, ::step], kernel, ((4, 5, 3), (0, 1, 2))) + bias


def _mean(x: np.ndarray, atoms: np.ndarray) -> np.ndarray:
    logits = x.reshape(len(x), -1, len(atoms))
    mass = np.exp(logits - logits.max(-1, keepdims=True))
    return mass @ atoms / mass.sum(-1)


def _argmax_each(x: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    ends = np.cumsum(sizes.astype(int))
    return np.stack([part.argmax(-1) for part in np.split(x, ends[:-1], axis=-1)], axis=-1)


OPERATIONS = {
    "flatten": lambda x: x.reshape(len(x), -1),
    "normalize": lambda x, mean, scale, limit: np.clip((x - mean) / scale, -limit, limit),
    "dense": lambda x, kernel, bias: x @ kernel + bias,
    "layer_norm": _layer_norm,
    "image": lambda x, shape: x.reshape(len(x), *shape.astype(int)),
    "conv": _conv,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "mean": _mean,
    "silu": lambda x: x * (1 + np.tanh(x / 2)) / 2,
    "rescale": lambda x, low, high: low + (np.clip(x, -1, 1) + 1) * (high - low) / 2,
    "argmax": lambda x: x.argmax(-1),
    "argmax_each": _argmax_each,
}
"""Layer -> the function that computes it; `keep` and `add` are the loop's own."""
