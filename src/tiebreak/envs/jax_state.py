"""Help device engines: random keys, states as named NumPy arrays and back, automatic resets.

The bridge and the fused loops take their keys from here, so that a host loop and a fused loop see
the same episodes.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from tiebreak.core.jax_devices import put_global, to_host
from tiebreak.core.prefixes import Arrays
from tiebreak.core.seeding import derive
from tiebreak.core.types import Array, Tree


def env_keys(seed: int, impl: str | None = None) -> tuple[Array, Array]:
    """Return reset_key and steps_key, JAX keys of the PRNG `impl` (None: JAX's default)."""
    reset_key, steps_key = jax.random.split(jax.random.key(derive(seed, "env"), impl=impl))
    return reset_key, steps_key


def chunk_key(steps_key: Array, index: Array | int) -> Array:
    """Return the key of the `index`-th chunk of steps, the argument of `DeviceEnv.draw`."""
    return jax.random.fold_in(steps_key, index)


def dump_tree(tree: Tree) -> Arrays:
    """Return every leaf as NumPy, by its path in the tree."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): to_host(leaf) for path, leaf in leaves}


def load_tree(like: Tree, arrays: Mapping[str, np.ndarray]) -> Tree:
    """Restore a `dump_tree` with the structure, types and devices of `like`."""

    def leaf(path, old):
        # Copied: a buffer that NumPy owns cannot be donated to a program.
        new = jnp.array(arrays[jax.tree_util.keystr(path)], old.dtype, copy=True)
        return put_global(new.reshape(old.shape), old.sharding)

    return jax.tree_util.tree_map_with_path(leaf, like)


def raw_keys(key: Array, shape: tuple[int, ...]) -> Array:
    """Draw keys [*shape, …] as plain numbers, which checkpoints can store."""
    key_shape = jax.eval_shape(jax.random.PRNGKey, 0).shape  # of JAX's default generator
    return jax.random.bits(key, (*shape, *key_shape), jnp.uint32)


def strong(tree: Tree) -> Tree:
    """Convert Python numbers in a state to typed arrays, so that a scan can carry them."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.result_type(x)), tree)


def where_rows(ended: Array, new: Array, old: Array) -> Array:
    """Select rows of `new` where `ended` [N], else of `old`, in the type of `new`."""
    ended = ended.reshape(ended.shape + (1,) * (new.ndim - 1))
    return jnp.where(ended, new, old.astype(new.dtype))
