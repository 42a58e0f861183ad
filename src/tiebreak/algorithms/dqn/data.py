"""Inputs and outputs of DQN's functions in every framework: batches, noise, terms, weights.

U is num_updates, B is batch_size, N is num_envs, K is the number of actions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tiebreak.algorithms.dqn.config import Config
from tiebreak.core import off_policy
from tiebreak.core.noise import Draw
from tiebreak.core.off_policy import Act, Batch
from tiebreak.core.types import Array, EnvSpec
from tiebreak.frameworks import weights

__all__ = ["Act", "Batch", "LossTerms", "Metrics", "Noise"]

COUNTS = {"q": "adam/count"}
"""Canonical name of each optimizer's step count, in the order of the updates."""
TARGETS = ("q",)
"""Optimizers whose networks have target copies."""
STATISTICS = ("obs_moments",)
"""Running statistics in the state, by canonical name."""
NETWORKS = {"q": ("q",)}
"""Canonical names of the networks that each optimizer trains."""


class Noise(NamedTuple):
    """Random numbers of one `step`: none; the loop draws the batch."""


class LossTerms(NamedTuple):
    """Scalars of one loss evaluation (means over a batch)."""

    loss: Array
    q: Array
    """Mean Q of the actions in the batch."""
    target: Array
    """Mean value that Q is moved towards."""


class Metrics(NamedTuple):
    """Scalars of one `step`: means over its updates."""

    loss: Array
    """mean (Q(obs, action) − y)² (D2), or a cross-entropy (D8)."""
    q: Array
    """Mean Q of the actions in the batch."""
    target: Array
    """Mean y = r + d·max Q′(next_obs, a), the value that Q is moved towards (D2 D3)."""
    grad_norm: Array
    """Global norm of the gradient before clipping."""


def act_noise(spec: EnvSpec, num_envs: int) -> Draw:
    """Return the draw of `act`, [N, 2]: one to decide on exploring, one for the action (D1)."""
    return Draw("uniform", (num_envs, 2))


def step_noise(spec: EnvSpec, config: Config) -> Noise:
    """Return the draws of one `step`."""
    return Noise()


def initial_weights(spec: EnvSpec, config: Config, seed: int) -> weights.Weights:
    """Return the canonical weights of a new agent, with target and optimizer state (D6)."""
    rng = np.random.default_rng(seed)
    inputs, outputs = spec.observation_size, spec.action_size * config.num_atoms  # D8
    out = weights.init_network(rng, "q", spec, config.layers, inputs, outputs, gain=1.0)
    trained = list(out)

    out.update(weights.target_copies(out, trained))
    out = weights.with_adam(out, trained)
    return weights.with_moments(out, "obs", (spec.observation_size,))


def make_optimizers(config: Config, make: Callable) -> dict[str, Any]:
    """Return the optimizers by name; `make` is a framework's `ops.make_optimizer` (D5)."""
    return {
        "q": make(
            config.optimizer,
            lambda count: config.learning_rate,
            config.adam_eps,
            config.max_grad_norm,
        )
    }


def sample_batch(spec: EnvSpec, config: Config, rng: np.random.Generator) -> tuple[Batch, Noise]:
    """Draw a valid batch and its noise, as float32 NumPy arrays."""
    return off_policy.sample_batch(spec, config, rng), Noise()
