"""One agent's environments distributed over all devices of a kind: `--device gpu:all`.

The program is the one for a single device. Its arrays are global: the environments' own are split
by environment, everything else is replicated, and XLA's partitioner does the rest. So simulation is
distributed, and every device computes the same updates: docs/decisions/0032. With `--distributed`
the devices are those of several processes, all of which run this program: docs/decisions/0067.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tiebreak.core.errors import UsageError
from tiebreak.core.jax_devices import put_tree
from tiebreak.core.ranks import ALONE, Ranks
from tiebreak.core.types import Tree

AXIS = "environments"
"""Name of the axis of devices."""
PER_ENVIRONMENT = (
    "env_state", "obs", "exploring", "remembered", "episode_return", "episode_length",
)  # fmt: skip
"""Fields of a carry that belong to environments."""


def share_environments(loop: Any, ranks: Ranks = ALONE) -> None:
    """Distribute a fused loop that has not run over as many devices as divide its environments.

    Of several ranks, over all devices of all of them. Raises UsageError if these are too many.
    """
    devices = devices_for(loop.runtime.native_device, loop.env.num_envs, ranks)
    mesh = Mesh(np.array(devices), (AXIS,))
    by_env = NamedSharding(mesh, PartitionSpec(AXIS))
    replicated = NamedSharding(mesh, PartitionSpec())

    load = loop.agent.load
    loop.agent = loop.agent._replace(load=lambda weights: put_tree(load(weights), replicated))
    loop.ranks, loop.shares_environments = ranks, True
    shardings = _shardings(loop._carry, loop.env.num_envs, by_env, replicated)

    def pinned(program: Callable) -> Callable:
        """Keep results where the arguments are: else a second call would compile again."""

        def run(*args: Any) -> Any:
            state, (carry, progress) = program(*args)
            state = jax.lax.with_sharding_constraint(state, replicated)
            carry = jax.lax.with_sharding_constraint(carry, shardings)
            progress = jax.lax.with_sharding_constraint(progress, replicated)
            return state, (carry, progress)

        return run

    loop.begin(
        put_tree(loop.state, replicated),
        put_tree(loop._carry, shardings),
        put_tree(loop._keys, replicated),
        wrap=pinned,
    )


def devices_for(device: Any, count: int, ranks: Ranks = ALONE, what: str = "num_envs") -> list[Any]:
    """Return as many devices of the kind of `device` as divide `count`, the number of `what`.

    Of several ranks, all devices that they have: a process without any could not take part.
    """
    if ranks.count > 1:
        devices = jax.devices(device.platform)
        if count % len(devices):
            raise UsageError(
                f"{what} is {count}, which the {len(devices)} devices of {ranks.count} processes "
                f"cannot share out equally: choose a multiple of {len(devices)}"
            )
        return devices
    devices = jax.local_devices(backend=device.platform)
    number = max(n for n in range(1, len(devices) + 1) if count % n == 0)
    return devices[:number]


def _shardings(carry: Any, num_envs: int, by_env: NamedSharding, replicated: NamedSharding) -> Any:
    """Return `by_env` for every array of the carry that has one row per environment."""

    def of_leaf(leaf: jax.Array) -> NamedSharding:
        has_rows = leaf.ndim > 0 and len(leaf) == num_envs
        return by_env if has_rows else replicated

    shardings: dict[str, Tree] = {}
    for name, field in carry._asdict().items():
        of = of_leaf if name in PER_ENVIRONMENT else lambda _: replicated
        shardings[name] = jax.tree.map(of, field)
    return type(carry)(**shardings)
