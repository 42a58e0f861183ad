"""Random actions before learning starts, and a σ of its own for every episode (decision 0025)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.core.noise import Draw
from tiebreak.core.off_policy import Act, Exploring
from tiebreak.core.types import Array


def random_draw(spec: Any, config: Any) -> Draw:
    """The randomness of an iteration before learning starts: [R·T, N, A] uniform."""
    shape = config.num_rounds * config.num_steps, config.num_envs, spec.action_size
    return Draw("uniform", shape)


def random_act(spec: Any, uniform: Array, xp: Any) -> Act:
    """Uniform actions from numbers in [0, 1), [N, A]; `xp` is numpy or jax.numpy."""
    if spec.discrete:
        action = (uniform[:, 0] * spec.num_actions).astype(xp.int32)
        return Act(action, action)
    low, high = (xp.asarray(bound, xp.float32) for bound in spec.bounds)
    return Act(low + uniform * (high - low), 2.0 * uniform - 1.0)


def noise_scales(algorithm: str, config: Any) -> tuple[float, float] | None:
    """Between what an episode's σ is drawn; None for algorithms that have one σ, or none."""
    found = getattr(registry.data_module(algorithm), "noise_scales", None)
    return found and found(config)


def first_exploring(num_envs: int, asarray: Callable[[np.ndarray], Array]) -> Exploring:
    """What is known before the first step, with which an episode begins everywhere."""
    ends = np.ones(num_envs, bool), np.zeros(num_envs, bool)
    return Exploring(*map(asarray, (np.zeros(num_envs, np.float32), *ends)))
