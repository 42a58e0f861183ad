"""Inputs and outputs of TD3's functions in every framework: batches, noise, terms, weights.

U is num_updates, B is batch_size, N is num_envs, A is the number of action dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tiebreak.algorithms.td3.config import Config
from tiebreak.core import off_policy
from tiebreak.core.noise import Draw, sample
from tiebreak.core.off_policy import Act, Batch
from tiebreak.core.types import Array, EnvSpec
from tiebreak.frameworks import weights

__all__ = ["Act", "ActorTerms", "Batch", "CriticTerms", "Metrics", "Noise"]

CRITICS = ("critic1", "critic2")
"""Canonical names of the two critics."""
COUNTS = {"critic": "adam/count", "actor": "adam/actor_count"}
"""Canonical name of each optimizer's step count, in the order of the updates (D5)."""
TARGETS = ("critic", "actor")
"""Optimizers whose networks have target copies."""
STATISTICS = ("obs_moments",)
"""Running statistics in the state, by canonical name."""
NETWORKS = {"critic": CRITICS, "actor": ("actor",)}
"""Canonical names of the networks that each optimizer trains."""


class Noise(NamedTuple):
    """Random numbers of one `step`."""

    target: Array
    """[U, B, A] standard normal: smooths the target policy (D2)."""


class CriticTerms(NamedTuple):
    """Scalars of one evaluation of the critics' loss (means over a batch)."""

    loss: Array
    q1: Array
    """Mean Q₁ of the actions in the batch."""
    q2: Array
    target: Array
    """Mean value that both critics are moved towards."""


class ActorTerms(NamedTuple):
    """Scalars of one evaluation of the actor's loss."""

    loss: Array


class Metrics(NamedTuple):
    """Scalars of one `step`: means over its updates."""

    critic_loss: Array
    """mean (Q₁(obs, action) − y)² + mean (Q₂(obs, action) − y)² (D3)."""
    q1: Array
    """Mean Q₁ of the actions in the batch."""
    q2: Array
    """Mean Q₂ of the actions in the batch."""
    target: Array
    """Mean y = r + d·min(Q₁′, Q₂′)(next_obs, a′), which both critics are moved towards (D2)."""
    critic_norm: Array
    """Global norm of the critics' gradient before clipping."""
    actor_loss: Array
    """−mean Q₁(obs, π(obs)), over the updates of the actor (D4)."""
    actor_norm: Array
    """Global norm of the actor's gradient before clipping."""


def act_noise(spec: EnvSpec, num_envs: int) -> Draw:
    """Return the draw of `act`, [N, A]; zeros are greedy (D1)."""
    return Draw("normal", (num_envs, spec.action_size))


def step_noise(spec: EnvSpec, config: Config) -> Noise:
    """Return the draws of one `step`."""
    return Noise(Draw("normal", (config.num_updates, config.batch_size, spec.action_size)))


def initial_weights(spec: EnvSpec, config: Config, seed: int) -> weights.Weights:
    """Return the canonical weights of a new agent, with targets and optimizer state (D8)."""
    rng = np.random.default_rng(seed)
    observation, action = spec.observation_size, spec.action_size
    layers, inputs = config.layers, observation + action

    out = weights.init_network(rng, "actor", spec, layers, observation, action, gain=0.01)
    for name in CRITICS:
        out.update(weights.init_network(rng, name, spec, layers, inputs, 1, gain=1.0))
    trained = list(out)

    out.update(weights.target_copies(out, trained))
    out = weights.with_adam(out, trained)
    out["adam/actor_count"] = np.zeros((), np.int32)
    return weights.with_moments(out, "obs", (observation,))


def make_optimizers(config: Config, make: Callable) -> dict[str, Any]:
    """Return the optimizers by name; `make` is a framework's `ops.make_optimizer` (D6)."""
    return {
        name: make(
            config.optimizer, lambda count, rate=rate: rate, config.adam_eps, config.max_grad_norm
        )
        for name, rate in config.rates.items()
    }


def sample_batch(spec: EnvSpec, config: Config, rng: np.random.Generator) -> tuple[Batch, Noise]:
    """Draw a valid batch and its noise, as float32 NumPy arrays."""
    batch = off_policy.sample_batch(spec, config, rng)
    return batch, Noise(*(sample(draw, rng) for draw in step_noise(spec, config)))
