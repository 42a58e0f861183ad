"""A tree of JAX arrays as NumPy arrays with names, and back to where it was."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from tiebreak.core.arrays import Arrays
from tiebreak.core.types import Tree


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
