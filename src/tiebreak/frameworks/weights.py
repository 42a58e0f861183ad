"""Canonical weights: their names, initial values and file format (safetensors).

Names are paths such as `actor/0/kernel` ([in, out]) and `actor/0/bias` ([out]). Every framework
loads and dumps this form, so any of them reads any other's file.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tiebreak.core.errors import UsageError
from tiebreak.core.files import write_atomic
from tiebreak.core.types import EnvSpec

Weights = dict[str, np.ndarray]

HIDDEN_GAIN = float(np.sqrt(2.0))
"""Gain of orthogonal kernels before a hidden layer's activation."""


def orthogonal(rng: np.random.Generator, rows: int, columns: int, gain: float) -> np.ndarray:
    """Draw a (semi-)orthogonal float32 matrix [rows, columns], times `gain` (Saxe et al. 2014)."""
    tall = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q = q * np.sign(np.diag(r))  # makes the distribution uniform and the result unique
    return np.ascontiguousarray(gain * (q if rows >= columns else q.T), dtype=np.float32)


def init_mlp(
    rng: np.random.Generator, name: str, sizes: Sequence[int], gains: Sequence[float]
) -> Weights:
    """Draw orthogonal kernels and zero biases for an MLP with layer widths `sizes`.

    `gains` has one number per layer, that is len(sizes) - 1.
    """
    weights: Weights = {}
    for i, (fan_in, fan_out, gain) in enumerate(zip(sizes[:-1], sizes[1:], gains, strict=True)):
        weights[f"{name}/{i}/kernel"] = orthogonal(rng, fan_in, fan_out, gain)
        weights[f"{name}/{i}/bias"] = np.zeros(fan_out, np.float32)
    return weights


def uniform_mlp(rng: np.random.Generator, name: str, sizes: Sequence[int]) -> Weights:
    """Draw kernels and biases uniform in ±1/√fan_in, as torch's Linear does (LeCun et al. 1998)."""
    weights: Weights = {}
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        for kind, shape in (("kernel", (fan_in, fan_out)), ("bias", (fan_out,))):
            drawn = rng.random(shape, dtype=np.float32)
            weights[f"{name}/{i}/{kind}"] = (2.0 * drawn - 1.0) / np.float32(np.sqrt(fan_in))
    return weights


def least_parameters(spec: EnvSpec, config: Any) -> int:
    """Return a lower bound of an agent's parameters, from the widths of its networks.

    `config` has them in fields that are called …sizes; every network begins with what a policy sees
    of an observation.
    """
    count = 0
    for name, sizes in vars(config).items():
        if name.endswith("sizes") and sizes:
            widths = (spec.visible_size, *sizes)
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
