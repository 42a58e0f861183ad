"""Ask JAX for its devices, and say in one line why it has none; arrays of several processes."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from tiebreak.core.errors import MissingDevice


def require_devices() -> list[str]:
    """Start JAX, and return the platforms that it sees, sorted.

    Raises MissingDevice if it sees none, as with a JAX_PLATFORMS that is left over from a machine
    with other devices.
    """
    import jax

    try:
        return sorted({device.platform for device in jax.devices()})
    except Exception as error:  # of several types, by version and platform
        chosen = os.environ.get("JAX_PLATFORMS")
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        remedy = "set JAX_PLATFORMS=cpu, or reinstall JAX"
        if chosen:
            remedy = f"JAX_PLATFORMS={chosen!r} is set: unset it, or set JAX_PLATFORMS=cpu"
        raise MissingDevice(f"JAX sees no device here ({reason}); {remedy}") from error


def put_global(array: Any, sharding: Any) -> Any:
    """Place an array that every process holds in full where a device or a sharding says.

    The devices may be other processes'. Keys of random numbers are placed as their numbers.
    """
    import jax
    import jax.numpy as jnp

    if getattr(sharding, "is_fully_addressable", True):
        return jax.device_put(array, sharding)
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        numbers = put_global(jax.random.key_data(array), sharding)
        return jax.random.wrap_key_data(numbers, impl=jax.random.key_impl(array))
    whole = np.asarray(array)
    shards = []
    for device, index in sharding.addressable_devices_indices_map(whole.shape).items():
        # Copied: a buffer that NumPy owns cannot be donated to a program.
        shards.append(jax.device_put(jnp.array(whole[index], copy=True), device))
    return jax.make_array_from_single_device_arrays(whole.shape, sharding, shards)


def put_tree(tree: Any, shardings: Any) -> Any:
    """Place a tree as `put_global` does; `shardings` is a prefix of it: one for each branch."""
    import jax

    def put(sharding: Any, branch: Any) -> Any:
        return jax.tree.map(lambda leaf: put_global(leaf, sharding), branch)

    return jax.tree.map(put, shardings, tree)


def to_host(array: Any) -> np.ndarray:
    """Return an array as NumPy; all processes call it for one that is split over them."""
    import jax
    from jax.experimental import multihost_utils

    is_split = isinstance(array, jax.Array) and not (
        array.is_fully_addressable or array.is_fully_replicated
    )
    return np.asarray(multihost_utils.process_allgather(array, tiled=True) if is_split else array)
