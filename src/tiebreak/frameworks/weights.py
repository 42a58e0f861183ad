"""Canonical weights: their names, initial values and file format (safetensors).

Names are paths such as `actor/0/kernel` ([in, out]) and `actor/0/bias` ([out]), of a convolution
`actor/conv/0/kernel` ([height, width, in, out]). Every framework loads and dumps this form, so any
of them reads any other's file.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tiebreak.core.errors import UsageError
from tiebreak.core.files import write_atomic
from tiebreak.core.networks import GATES, Layers, dense_sizes, gru_sizes, kernels, norms
from tiebreak.core.types import EnvSpec

Weights = dict[str, np.ndarray]

HIDDEN_GAIN = float(np.sqrt(2.0))
"""Gain of orthogonal kernels before a hidden layer's activation."""
TRUNCATED_STD = 0.87962566103423978
"""Standard deviation of a standard normal variable that is cut off at ±2."""


def orthogonal(rng: np.random.Generator, rows: int, columns: int, gain: float) -> np.ndarray:
    """Draw a (semi-)orthogonal float32 matrix [rows, columns], times `gain` (Saxe et al. 2014)."""
    tall = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q = q * np.sign(np.diag(r))  # makes the distribution uniform and the result unique
    return np.ascontiguousarray(gain * (q if rows >= columns else q.T), dtype=np.float32)


def init_network(
    rng: np.random.Generator,
    name: str,
    spec: EnvSpec,
    layers: Layers,
    inputs: int,
    outputs: int,
    gain: float,
    hidden_gain: float = HIDDEN_GAIN,
) -> Weights:
    """Draw a network's orthogonal kernels, with zero biases; LayerNorm begins as the identity.

    Args:
      spec: Observations with which its `inputs` begin.
      gain: Of the last layer's kernel.
      hidden_gain: Of all other kernels.
    """

    def draw(shape: tuple[int, ...], is_last: bool) -> tuple[np.ndarray, np.ndarray]:
        columns = shape[-1]
        rows = math.prod(shape[:-1])
        kernel = orthogonal(rng, rows, columns, gain if is_last else hidden_gain)
        return kernel.reshape(shape), np.zeros(columns, np.float32)

    return _draw_network(name, spec, layers, inputs, outputs, draw)


def init_gru(rng: np.random.Generator, name: str, layers: Layers, inputs: int) -> Weights:
    """Draw dense layers and a gated recurrent unit: kernels orthogonal, biases zero.

    The gain is HIDDEN_GAIN before an activation, and 1 for each gate alone.
    """
    weights: Weights = {}
    *dense, of_inputs, of_state = gru_sizes(inputs, layers.sizes)
    drawn = [orthogonal(rng, *shape, HIDDEN_GAIN) for shape in dense]
    for rows, columns in (of_inputs, of_state):
        gates = [orthogonal(rng, rows, columns // GATES, 1.0) for _ in range(GATES)]
        drawn.append(np.concatenate(gates, axis=1))
    for i, kernel in enumerate(drawn):
        weights[f"{name}/{i}/kernel"] = kernel
        weights[f"{name}/{i}/bias"] = np.zeros(kernel.shape[1], np.float32)
    return weights


def uniform_network(
    rng: np.random.Generator,
    name: str,
    spec: EnvSpec,
    layers: Layers,
    inputs: int,
    outputs: int,
) -> Weights:
    """Draw kernels and biases uniform in ±1/√fan_in, as torch's Linear does (LeCun et al. 1998)."""

    def draw(shape: tuple[int, ...], is_last: bool) -> tuple[np.ndarray, np.ndarray]:
        root = np.float32(np.sqrt(math.prod(shape[:-1])))
        kernel = rng.random(shape, dtype=np.float32)
        bias = rng.random(shape[-1:], dtype=np.float32)
        return (2.0 * kernel - 1.0) / root, (2.0 * bias - 1.0) / root

    return _draw_network(name, spec, layers, inputs, outputs, draw)


def normal_network(
    rng: np.random.Generator,
    name: str,
    spec: EnvSpec,
    layers: Layers,
    inputs: int,
    outputs: int,
    hidden_variance: float,
) -> Weights:
    """Draw normal kernels, cut off at two standard deviations, and zero biases, as Flax does.

    A kernel's variance is 1/fan_in (LeCun et al. 1998), of hidden layers `hidden_variance`/fan_in.
    """

    def draw(shape: tuple[int, ...], is_last: bool) -> tuple[np.ndarray, np.ndarray]:
        variance = (1.0 if is_last else hidden_variance) / math.prod(shape[:-1])
        kernel = np.sqrt(variance) / TRUNCATED_STD * _truncated_normal(rng, shape)
        return kernel.astype(np.float32), np.zeros(shape[-1], np.float32)

    return _draw_network(name, spec, layers, inputs, outputs, draw)


def _truncated_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw standard normal numbers, and those beyond ±2 again until none is."""
    out = rng.standard_normal(shape)
    while (beyond := np.abs(out) > 2.0).any():
        out[beyond] = rng.standard_normal(beyond.sum())
    return out


def _draw_network(
    name: str,
    spec: EnvSpec,
    layers: Layers,
    inputs: int,
    outputs: int,
    draw: Callable[[tuple[int, ...], bool], tuple[np.ndarray, np.ndarray]],
) -> Weights:
    """Return a network's weights, in the order of its layers; LayerNorm begins as the identity.

    `draw` returns a kernel and its bias from the kernel's shape, and True for the last layer.
    """
    weights: Weights = {}
    shapes = kernels(layers, spec.observation_shape, inputs, outputs)
    for i, (key, shape) in enumerate(shapes.items()):
        kernel, bias = draw(shape, i == len(shapes) - 1)
        weights[f"{name}/{key}/kernel"] = kernel
        weights[f"{name}/{key}/bias"] = bias
    for key, size in norms(layers, spec.observation_shape).items():
        weights[f"{name}/{key}/scale"] = np.ones(size, np.float32)
        weights[f"{name}/{key}/bias"] = np.zeros(size, np.float32)
    return weights


def least_parameters(spec: EnvSpec, config: Any) -> int:
    """Return a lower bound of an agent's parameters, from the widths of its networks.

    `config` has them in fields that are called …sizes; every network begins with what a policy sees
    of an observation.
    """
    count = 0
    for name, sizes in vars(config).items():
        if name.endswith("sizes") and sizes:
            widths = dense_sizes(
                config.network, spec.observation_shape, (spec.visible_size, *sizes)
            )
            count += sum(math.prod(pair) for pair in itertools.pairwise(widths))
            count += sizes[-1] * getattr(config, "num_atoms", 1)  # a critic's outputs
    return count


def with_adam(weights: Mapping[str, np.ndarray], trained: Sequence[str]) -> Weights:
    """Add zeroed Adam moments (`adam/mu/…`, `adam/nu/…`) and the step count `adam/count`."""
    out = dict(weights)
    for moment in ("mu", "nu"):
        out.update({f"adam/{moment}/{k}": np.zeros_like(weights[k]) for k in trained})
    out["adam/count"] = np.zeros((), np.int32)
    return out


def with_moments(weights: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> Weights:
    """Add running statistics (`<name>_moments/…`) of no samples: mean 0, variance 1."""
    return {
        **weights,
        f"{name}_moments/count": np.zeros((), np.float32),
        f"{name}_moments/mean": np.zeros(shape, np.float32),
        f"{name}_moments/var": np.ones(shape, np.float32),
    }


def target_copies(weights: Mapping[str, np.ndarray], names: Iterable[str]) -> Weights:
    """Return copies of the weights `names` under `target/<name>`."""
    return {f"target/{name}": weights[name].copy() for name in names}


def save(
    path: str | Path, weights: Mapping[str, np.ndarray], metadata: Mapping[str, object]
) -> None:
    """Write safetensors with `metadata` as JSON, atomically: an interrupted save keeps the old."""
    from safetensors.numpy import save as to_bytes

    arrays = {k: np.asarray(v, order="C") for k, v in weights.items()}
    data = to_bytes(arrays, metadata={"tiebreak": json.dumps(metadata, sort_keys=True)})
    write_atomic(Path(path), data)


def load(path: str | Path) -> tuple[Weights, dict]:
    """Read weights and metadata from a file of `save`. Raises UsageError for any other file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            metadata = json.loads((file.metadata() or {}).get("tiebreak", "{}"))
            names = file.keys()  # the file itself is not iterable
            return {k: file.get_tensor(k) for k in names}, metadata
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"cannot read weights from {str(path)!r}: {error}") from error
