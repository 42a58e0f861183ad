"""Exploration in loops: random actions before learning, and a noise scale per episode (0025)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.core.noise import Draw
from tiebreak.core.off_policy import Act, Exploring
from tiebreak.core.types import Array, EnvSpec


def random_draw(spec: EnvSpec, config: Any) -> Draw:
    """Return the randomness of an iteration of random actions: [R·T, N, A] uniform."""
    shape = (config.num_rounds * config.num_steps, config.num_envs, spec.action_size)
    return Draw("uniform", shape)


def random_act(spec: EnvSpec, uniform: Array, xp: Any) -> Act:
    """Return uniform actions from numbers [N, A] in [0, 1); `xp` is numpy or jax.numpy."""
    if spec.discrete:
        action = (uniform[:, 0] * spec.num_actions).astype(xp.int32)
        return Act(action, action)
    low, high = (xp.asarray(bound, xp.float32) for bound in spec.bounds)
    return Act(low + uniform * (high - low), 2.0 * uniform - 1.0)


def noise_scales(algorithm: str, config: Any) -> tuple[float, float] | None:
    """Return the range from which an episode's noise scale is drawn.

    None for algorithms with one fixed scale, or without one.
    """
    data = registry.data_module(algorithm)
    if not hasattr(data, "noise_scales"):
        return None
    return data.noise_scales(config)


def first_exploring(num_envs: int, asarray: Callable[[np.ndarray], Array]) -> Exploring:
    """Return the state before the first step: an episode begins in every environment."""
    return Exploring(
        scale=asarray(np.zeros(num_envs, np.float32)),
        terminated=asarray(np.ones(num_envs, bool)),
        truncated=asarray(np.zeros(num_envs, bool)),
    )
