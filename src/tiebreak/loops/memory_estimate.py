"""The memory that a fused loop takes on its device, added up from shapes before it runs."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax

from tiebreak.core.noise import Draw
from tiebreak.core.types import Tree


class Memory(NamedTuple):
    """Memory of a training, in bytes."""

    agent_bytes: int
    """Weights, optimizer, environments and replay of one agent, held throughout."""
    working_bytes: int
    """Random numbers and rollout of one agent's iteration; XLA's temporaries come on top."""
    total_bytes: int
    """Both, of all agents, over all devices."""


def estimate(loop: Any) -> Memory:
    """Return the memory of a fused loop with one agent on one device."""
    agent_bytes = _bytes((loop.state, loop._carry))
    working_bytes = _working_bytes(loop)
    return Memory(agent_bytes, working_bytes, agent_bytes + working_bytes)


def _working_bytes(loop: Any) -> int:
    """Return the bytes of an iteration's draws, and of its rollout: six numbers per step."""
    num_envs = loop.env.num_envs
    steps = loop.config.iteration_steps // num_envs
    draws = jax.tree.leaves(loop._draws, is_leaf=lambda x: isinstance(x, Draw))
    draw_bytes = sum(4 * math.prod(draw.shape) for draw in draws)
    env_draws = jax.eval_shape(lambda key: loop.env.draw(key, steps), loop._keys[1])
    rollout_bytes = steps * (2 * _bytes(loop.obs) + 6 * 4 * num_envs)
    return draw_bytes + _bytes(env_draws) + rollout_bytes


def _bytes(tree: Tree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
