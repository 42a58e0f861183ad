"""Random numbers as data: an algorithm lists its draws, and the runtime draws them on its device.

`sample` is the NumPy reference of every kind. Runtimes implement the same distributions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

KINDS = ("normal", "gumbel", "uniform", "integers", "permutation")


class Draw(NamedTuple):
    """One array of random numbers.

    kind: `normal`, `gumbel` (standard), `uniform` ([0, 1)), `integers` (int32, uniform in [0, 2³¹):
    an index is the remainder by a size), or `permutation` (int32; each row of the last axis is an
    independent uniform permutation of range(shape[-1])).
    """

    kind: str
    shape: tuple[int, ...]


def sample(draw: Draw, rng: np.random.Generator) -> np.ndarray:
    """Draw with NumPy: float32, or int32 for integers and permutations."""
    if draw.kind == "normal":
        return rng.standard_normal(draw.shape, dtype=np.float32)
    if draw.kind == "gumbel":
        return rng.gumbel(size=draw.shape).astype(np.float32)
    if draw.kind == "uniform":
        return rng.random(draw.shape, dtype=np.float32)
    if draw.kind == "integers":
        return rng.integers(2**31, size=draw.shape, dtype=np.int32)
    if draw.kind == "permutation":
        rows = np.broadcast_to(np.arange(draw.shape[-1], dtype=np.int32), draw.shape)
        return rng.permuted(rows, axis=-1)
    raise ValueError(f"unknown kind of noise {draw.kind!r} (valid: {', '.join(KINDS)})")
