"""Exploration by a σ of its own for every episode: docs/decisions/0025."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.core.off_policy import Exploring
from tiebreak.core.types import Array


def noise_scales(algorithm: str, config: Any) -> tuple[float, float] | None:
    """Between what an episode's σ is drawn; None for algorithms that have one σ, or none."""
    found = getattr(registry.data_module(algorithm), "noise_scales", None)
    return found and found(config)


def first_exploring(num_envs: int, asarray: Callable[[np.ndarray], Array]) -> Exploring:
    """What is known before the first step, with which an episode begins everywhere."""
    ends = np.ones(num_envs, bool), np.zeros(num_envs, bool)
    return Exploring(*map(asarray, (np.zeros(num_envs, np.float32), *ends)))
