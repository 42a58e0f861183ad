"""Which random keys the environments of a device engine consume, wherever they are run.

The bridge and the fused loop both take their keys from here: that is what makes a host loop and a
fused loop see the same episodes.
"""

from __future__ import annotations

from tiebreak.core.seeding import derive
from tiebreak.core.types import Array


def env_keys(seed: int, impl: str | None = None) -> tuple[Array, Array]:
    """Seed -> (reset_key, steps_key), JAX keys of the PRNG `impl` (None: JAX's default)."""
    import jax

    reset_key, steps_key = jax.random.split(jax.random.key(derive(seed, "env"), impl=impl))
    return reset_key, steps_key


def chunk_key(steps_key: Array, index: Array | int) -> Array:
    """The key of the `index`-th chunk of steps: the argument of `DeviceEnv.draw`."""
    import jax

    return jax.random.fold_in(steps_key, index)
