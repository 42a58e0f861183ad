"""Checks of the settings that all on-policy algorithms share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiebreak.core import networks
from tiebreak.core.config import check_numbers
from tiebreak.core.errors import UsageError


def check(config: Any, ranges: Mapping[str, tuple[float, float]], recurrent: bool = False) -> None:
    """Raise UsageError if settings contradict one another; `ranges` are the algorithm's own.

    `recurrent` says whether it has a place for a memory.
    """
    check_numbers(config, ranges)
    if config.batch_size % config.num_minibatches:
        raise UsageError(
            f"num_minibatches ({config.num_minibatches}) must divide num_envs * num_steps "
            f"({config.num_envs} * {config.num_steps} = {config.batch_size})"
        )
    networks.check(config.network, config.hidden_sizes, recurrent=recurrent)
    if any(n < 1 for n in config.hidden_sizes):
        raise UsageError(f"hidden_sizes {config.hidden_sizes} has a width below 1")
