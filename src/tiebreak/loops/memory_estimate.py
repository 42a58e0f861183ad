"""What a fused loop takes on its device, added up from shapes before it runs."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax

from tiebreak.core.noise import Draw
from tiebreak.core.types import Tree


class Memory(NamedTuple):
    """What a training takes, computed before it runs."""

    agent_bytes: int
    """Weights, optimizer, environments and replay of one agent, held throughout."""
    working_bytes: int
    """An iteration's random numbers and rollout, of one agent; XLA's temporaries come on top."""
    total_bytes: int
    """Both, of all agents, over all devices."""


def of_agent(loop: Any) -> Memory:
    """Of a loop with one agent, on one device."""
    held, working = _bytes((loop.state, loop._carry)), _working_bytes(loop)
    return Memory(held, working, held + working)


def _working_bytes(loop: Any) -> int:
    """An iteration's random numbers, and its rollout with the usual six numbers a step."""
    num_envs = loop.env.num_envs
    steps = loop.config.iteration_steps // num_envs
    draws = jax.tree.leaves(loop._draws, is_leaf=lambda x: isinstance(x, Draw))
    worlds = jax.eval_shape(lambda key: loop.env.draw(key, steps), loop._keys[1])
    rollout = steps * (2 * _bytes(loop.obs) + 6 * 4 * num_envs)
    return sum(4 * math.prod(draw.shape) for draw in draws) + _bytes(worlds) + rollout


def _bytes(tree: Tree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
