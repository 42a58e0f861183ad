"""Canonical names of weights in JAX trees, and what the agents of all frameworks on it share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tiebreak.core.types import Array, EnvSpec, RunningStats, Tree

PLUMBING = ("params", "torso", "dense", "layers", "layer")
"""Steps on the way to a weight that its canonical name leaves out."""


def name_of(path: tuple) -> str:
    """Return the canonical name of a leaf: q, params, torso, 0, kernel -> q/0/kernel.

    Args:
        path: the keys of JAX's or Flax's path to the leaf.
    """
    names = (_key_name(key) for key in path)
    return "/".join(name for name in names if name not in PLUMBING)


def _key_name(key: Any) -> str:
    """Return the text of a DictKey, GetAttrKey or SequenceKey, or of a plain key of Flax."""
    for field in ("key", "name", "idx"):
        if hasattr(key, field):
            return str(getattr(key, field))
    return str(key)


def canonical_names(tree: Tree) -> dict[str, Array]:
    """Return the leaves of a tree under their canonical names."""
    return {name_of(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def named_by_optimizer(trees: Mapping[str, Tree], prefix: str = "") -> dict[str, Array]:
    """Return the leaves of trees by optimizer under canonical names, which leave optimizers out."""
    arrays = {}
    for tree in trees.values():
        arrays.update({prefix + name: x for name, x in canonical_names(tree).items()})
    return arrays


def fill_tree(tree: Tree, weights: Mapping[str, Any], prefix: str, dtype: str) -> Tree:
    """Replace every leaf by the array that `weights` holds under `prefix` + canonical name."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: jnp.array(weights[prefix + name_of(path)], dtype), tree
    )


def load_opt_state(
    optimizer: Any,
    params: Tree,
    weights: Mapping[str, Any],
    count: str,
    dtype: str,
) -> tuple:
    """Return the state of an `ops.make_optimizer`, with Adam's moments and the step count.

    Args:
        params: what the optimizer trains.
        count: canonical name of the step count.
    """
    clip, adam, schedule = optimizer.init(params)
    adam = adam._replace(
        count=jnp.array(weights[count], jnp.int32),
        mu=fill_tree(params, weights, "adam/mu/", dtype),
        nu=fill_tree(params, weights, "adam/nu/", dtype),
    )
    # A buffer of its own: both counts are donated to the compiled update.
    schedule = schedule._replace(count=jnp.array(weights[count], jnp.int32))
    return clip, adam, schedule


def load_statistics(
    weights: Mapping[str, Any], names: Iterable[str], dtype: str
) -> dict[str, RunningStats | Array]:
    """Return the running statistics by name: RunningStats, or the array of that very name."""
    statistics = {}
    for name in names:
        if name in weights:
            statistics[name] = jnp.array(weights[name], dtype)
        else:
            fields = {k: weights[f"{name}/{k}"] for k in RunningStats._fields}
            arrays = {k: jnp.array(value, dtype) for k, value in fields.items()}
            statistics[name] = RunningStats(**arrays)
    return statistics


def dump_arrays(
    counts: Mapping[str, str],
    params: Mapping[str, Tree],
    target: Mapping[str, Tree],
    adams: Mapping[str, optax.ScaleByAdamState],
    statistics: Mapping[str, Tree],
) -> dict[str, np.ndarray]:
    """Return a whole state as NumPy arrays under canonical names.

    Args:
        counts: canonical names of the step counts, by optimizer.
        params, target, adams: trees of arrays by optimizer.
    """
    arrays = named_by_optimizer(params)
    arrays.update(named_by_optimizer(target, "target/"))
    arrays.update(named_by_optimizer({k: adam.mu for k, adam in adams.items()}, "adam/mu/"))
    arrays.update(named_by_optimizer({k: adam.nu for k, adam in adams.items()}, "adam/nu/"))
    arrays.update({counts[name]: adam.count for name, adam in adams.items()})
    arrays.update(canonical_names(statistics))
    return {name: np.asarray(array) for name, array in jax.device_get(arrays).items()}


def cast(tree: Tree, dtype: str) -> Tree:
    """Convert leaves to JAX arrays; floating-point numbers become `dtype`, others keep theirs."""

    def convert(x: Array) -> Array:
        floating = jnp.issubdtype(x.dtype, jnp.floating)
        return jnp.asarray(x, dtype) if floating else jnp.asarray(x)

    return jax.tree.map(convert, tree)


def action_bounds(spec: EnvSpec, dtype: str) -> tuple[Array, Array]:
    """Return the lowest and the highest actions of a box, [A] each."""
    low, high = spec.bounds
    return jnp.asarray(low, dtype), jnp.asarray(high, dtype)


def take(tree: Tree, index: int) -> Tree:
    """Return element `index` of every leaf's leading axis."""
    return jax.tree.map(lambda x: x[index], tree)


def split_leading(tree: Tree, size: int) -> Tree:
    """Reshape every leaf [n · size, …] to [n, size, …]."""
    return jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), tree)


def mean_columns(rows: Sequence[Sequence[Array]]) -> list[Array]:
    """Return the mean of each column of equally long rows of scalars."""
    return [sum(column) / len(column) for column in zip(*rows, strict=True)]


def interpolate(new: Tree, old: Tree, tau: float) -> Tree:
    """Return τ·new + (1 − τ)·old."""
    return optax.incremental_update(new, old, tau)


def step_towards(new: Tree, old: Tree, tau: float) -> Tree:
    """Return old + τ·(new − old): `interpolate`, rounded differently."""
    return jax.tree.map(lambda new, old: old + tau * (new - old), new, old)
