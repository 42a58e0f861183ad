"""Random keys of the environments of a device engine, the same wherever they are stepped.

The bridge and the fused loop both take their keys from here, so that a host loop and a fused loop
see the same episodes.
"""

from __future__ import annotations

from tiebreak.core.seeding import derive
from tiebreak.core.types import Array


def env_keys(seed: int, impl: str | None = None) -> tuple[Array, Array]:
    """Return reset_key and steps_key, JAX keys of the PRNG `impl` (None: JAX's default)."""
    import jax

    reset_key, steps_key = jax.random.split(jax.random.key(derive(seed, "env"), impl=impl))
    return reset_key, steps_key


def chunk_key(steps_key: Array, index: Array | int) -> Array:
    """Return the key of the `index`-th chunk of steps, the argument of `DeviceEnv.draw`."""
    import jax

    return jax.random.fold_in(steps_key, index)
