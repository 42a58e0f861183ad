"""Random numbers in JAX: every kind of `Draw`, traceable, so that a fused program holds them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from tiebreak.core.noise import Draw
from tiebreak.core.types import Array, Tree


def _draw(draw: Draw, key: Array) -> Array:
    if draw.kind == "permutation":
        rows = int(np.prod(draw.shape[:-1], dtype=int))
        return permutations(key, rows, draw.shape[-1]).reshape(draw.shape)
    if draw.kind == "integers":
        return (jax.random.bits(key, draw.shape, jnp.uint32) >> 1).astype(jnp.int32)
    return getattr(jax.random, draw.kind)(key, draw.shape, jnp.float32)


def permutations(key: Array, rows: int, n: int) -> Array:
    """[rows, n] int32, each row an independent uniform permutation of range(n).

    One sort of 32-bit random keys per row: jax.random.permutation sorts several times over to make
    ties impossible. Ties (probability about n²/2³³ per row) only leave two entries in order.
    """
    bits = jax.random.bits(key, (rows, n), jnp.uint32)
    index = jax.lax.broadcasted_iota(jnp.int32, (rows, n), 1)
    return jax.lax.sort((bits, index), dimension=1, num_keys=1)[1]


def draw_tree(draws: Tree, key: Array) -> Tree:
    """Draw every leaf of a tree of `Draw`, each from its own split of `key`."""
    leaves, treedef = jax.tree.flatten(draws, is_leaf=lambda x: isinstance(x, Draw))
    keys = jax.random.split(key, len(leaves))
    return treedef.unflatten([_draw(d, k) for d, k in zip(leaves, keys, strict=True)])
