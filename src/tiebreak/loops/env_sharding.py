"""One agent's environments shared out over all devices of a kind: `--device gpu:all`.

The program is the one for a single device. Its arrays are global: the environments' own are split
by environment, everything else is there on every device, and XLA's partitioner does the rest. So
simulation is shared, and updates are computed everywhere alike: docs/decisions/0032.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tiebreak.core.types import Tree

AXIS = "environments"
"""The name of the devices' axis."""
WORLD = ("env_state", "obs", "exploring", "episode_return", "episode_length")
"""What of a carry belongs to environments."""


def share_environments(loop: Any) -> None:
    """Make a fused loop that has not run one over as many devices as divide its environments."""
    mesh = Mesh(np.array(devices_for(loop.runtime.native_device, loop.env.num_envs)), (AXIS,))
    by_row, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ([AXIS], []))
    load = loop.agent.load
    loop.agent = loop.agent._replace(load=lambda weights: jax.device_put(load(weights), everywhere))
    shardings = _shardings(loop._carry, loop.env.num_envs, by_row, everywhere)

    def pinned(program: Callable) -> Callable:
        """Results lie where arguments do: else a second call would compile again."""

        def run(*args: Any) -> Any:
            state, (carry, told) = program(*args)
            state = jax.lax.with_sharding_constraint(state, everywhere)
            return state, (jax.lax.with_sharding_constraint(carry, shardings), told)

        return run

    loop.begin(
        jax.device_put(loop.state, everywhere),
        jax.device_put(loop._carry, shardings),
        jax.device_put(loop._keys, everywhere),
        over=pinned,
    )


def devices_for(device: Any, parts: int) -> list[Any]:
    """As many devices of this one's kind as divide so many parts."""
    there = jax.local_devices(backend=device.platform)
    return there[: max(n for n in range(1, len(there) + 1) if parts % n == 0)]


def _shardings(carry: Any, num_envs: int, by_row: NamedSharding, everywhere: NamedSharding) -> Any:
    """`by_row` for every array of the world that has one row for each environment."""

    def of(leaf: jax.Array) -> NamedSharding:
        return by_row if leaf.ndim and len(leaf) == num_envs else everywhere

    found: dict[str, Tree] = {
        name: jax.tree.map(of if name in WORLD else lambda _: everywhere, part)
        for name, part in carry._asdict().items()
    }
    return type(carry)(**found)
