"""What travels into and out of DQN's functions, in every framework, and how to make some.

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
    """The randomness of one `step`: none, the batch was drawn outside."""


class LossTerms(NamedTuple):
    """Scalars of one loss evaluation (means over a batch)."""

    loss: Array
    q: Array
    """Q of the actions that were taken."""
    target: Array


class Metrics(NamedTuple):
    """Scalars of one `step`: means over its updates; grad_norm is before clipping."""

    loss: Array
    q: Array
    target: Array
    grad_norm: Array


def act_noise(spec: EnvSpec, num_envs: int) -> Draw:
    """[N, 2]: whether to explore, and where to (D1); zeros are greedy."""
    return Draw("uniform", (num_envs, 2))


def step_noise(spec: EnvSpec, config: Config) -> Noise:
    """The draws of one `step`."""
    return Noise()


def initial_weights(spec: EnvSpec, config: Config, seed: int) -> weights.Weights:
    """The canonical dictionary of a new agent, target and optimizer state included (D6)."""
    rng = np.random.default_rng(seed)
    sizes, gain = (spec.observation_size, *config.hidden_sizes), float(np.sqrt(2.0))
    gains = [*[gain] * len(config.hidden_sizes), 1.0]
    out = weights.init_mlp(rng, "q", (*sizes, spec.action_size), gains)
    trained = list(out)
    out.update({f"target/{k}": out[k].copy() for k in trained})
    return weights.with_moments(weights.with_adam(out, trained), "obs", sizes[:1])


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
    """A random, valid batch and its noise, as float32 NumPy arrays."""
    return off_policy.sample_batch(spec, config, rng), Noise()
