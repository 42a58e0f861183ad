"""Memory of recurrent policies: an argument and a result of `act`, as noise is an argument.

It belongs to whoever acts: a loop, an evaluation, a loaded policy. They hold a tuple of one Memory,
or of none for a policy without memory, and pass it on as `act(state, obs, noise, *memory)`
(docs/decisions/0063).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tiebreak.core.networks import RECURRENT
from tiebreak.core.types import Array


class Memory(NamedTuple):
    """What a policy remembers of N environments, between two steps."""

    hidden: Array
    """[N, H]: what the last `act` returned."""
    begins: Array
    """[N] bool: an episode begins with the next step, for which `hidden` counts as zero."""


def first_memory(
    config: Any, begins: Array, asarray: Callable[[np.ndarray], Array]
) -> tuple[Memory, ...]:
    """Return the memory before any step; () for a policy without memory.

    Args:
        config: the algorithm's settings.
        begins: [N] bool, all true, in the form that outcomes of the environment's steps have.
        asarray: converts NumPy arrays to the agent's.
    """
    if config.network not in RECURRENT:
        return ()
    hidden = np.zeros((len(begins), config.hidden_sizes[-1]))
    return (Memory(asarray(hidden), begins),)


def next_memory(memory: tuple[Memory, ...], act: Any, outcome: Any) -> tuple[Memory, ...]:
    """Return the memory after a step; () if there was none before it.

    Args:
        act: what `act` returned for the step.
        outcome: the environment's EnvStep.
    """
    if not memory:
        return ()
    return (Memory(act.hidden, outcome.terminated | outcome.truncated),)
