"""A tree of JAX arrays: as NumPy arrays with names and back, and what automatic resets need."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from tiebreak.core.prefixes import Arrays
from tiebreak.core.types import Array, Tree


def dump_tree(tree: Tree) -> Arrays:
    """Path of a leaf -> its value."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def load_tree(like: Tree, arrays: Mapping[str, np.ndarray]) -> Tree:
    """What `dump_tree` gave, in the structure, the types and the place of `like`."""

    def leaf(path, old):
        # Copied: a buffer that NumPy owns cannot be reused by the programs that are given it.
        new = jnp.array(arrays[jax.tree_util.keystr(path)], old.dtype, copy=True)
        return jax.device_put(new.reshape(old.shape), old.sharding)

    return jax.tree_util.tree_map_with_path(leaf, like)


def strong(tree: Tree) -> Tree:
    """States may hold Python numbers: given a type here, once, so that a scan can carry them."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.result_type(x)), tree)


def where_rows(ended: Array, new: Array, old: Array) -> Array:
    """Rows of `new` where ended [N], else of `old`, in `new`'s type: states keep theirs."""
    ended = ended.reshape(ended.shape + (1,) * (new.ndim - 1))
    return jnp.where(ended, new, old.astype(new.dtype))
