"""Canonical names of weights in JAX trees: one walk serves Linen's dictionaries and Equinox."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from tiebreak.core.types import Array

PLUMBING = ("params", "mlp", "layers")
"""Steps on the way to a weight that its canonical name leaves out."""


def named(tree: Any) -> dict[str, Array]:
    """A tree shaped like the weights -> canonical names."""
    return {name_of(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def filled(tree: Any, weights: Mapping[str, Any], prefix: str, dtype: str) -> Any:
    """A like tree with the arrays that `weights` holds under `prefix` and the canonical names."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: jnp.array(weights[prefix + name_of(path)], dtype), tree
    )


def name_of(path: tuple) -> str:
    """Keys of JAX's or Flax's path, e.g. q, params, mlp, 0, kernel -> q/0/kernel."""
    words = (_word(key) for key in path)
    return "/".join(word for word in words if word not in PLUMBING)


def _word(key: Any) -> str:
    """DictKey, GetAttrKey, SequenceKey, or what Flax uses: a plain string or number."""
    for field in ("key", "name", "idx"):
        if hasattr(key, field):
            return str(getattr(key, field))
    return str(key)
