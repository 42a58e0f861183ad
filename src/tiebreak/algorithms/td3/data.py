"""What travels into and out of TD3's functions, in every framework, and how to make some.

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
    """The randomness of one `step`."""

    target: Array
    """[U, B, A] standard normal: what smooths the target policy (D2)."""


class CriticTerms(NamedTuple):
    """Scalars of one evaluation of the critics' loss (means over a batch)."""

    loss: Array
    q1: Array
    """Q₁ of the actions that were taken."""
    q2: Array
    target: Array


class ActorTerms(NamedTuple):
    """Scalars of one evaluation of the actor's loss."""

    loss: Array


class Metrics(NamedTuple):
    """Scalars of one `step`: means over its updates; gradient norms are before clipping."""

    critic_loss: Array
    q1: Array
    q2: Array
    target: Array
    critic_norm: Array
    actor_loss: Array
    actor_norm: Array


def act_noise(spec: EnvSpec, num_envs: int) -> Draw:
    """[N, A]: zeros are greedy (D1)."""
    return Draw("normal", (num_envs, spec.action_size))


def step_noise(spec: EnvSpec, config: Config) -> Noise:
    """The draws of one `step`."""
    return Noise(Draw("normal", (config.num_updates, config.batch_size, spec.action_size)))


def initial_weights(spec: EnvSpec, config: Config, seed: int) -> weights.Weights:
    """The canonical dictionary of a new agent, targets and optimizer state included (D8)."""
    rng = np.random.default_rng(seed)
    obs, act = spec.observation_size, spec.action_size
    hidden, gains = config.hidden_sizes, [float(np.sqrt(2.0))] * len(config.hidden_sizes)
    out = weights.init_mlp(rng, "actor", (obs, *hidden, act), [*gains, 0.01])
    for name in ("critic1", "critic2"):
        out.update(weights.init_mlp(rng, name, (obs + act, *hidden, 1), [*gains, 1.0]))
    trained = list(out)
    out.update({f"target/{k}": out[k].copy() for k in trained})
    out = weights.with_adam(out, trained)
    out["adam/actor_count"] = np.zeros((), np.int32)
    return weights.with_moments(out, "obs", (obs,))


def make_optimizers(config: Config, make: Callable) -> dict[str, Any]:
    """Return the optimizers by name; `make` is a framework's `ops.make_optimizer` (D6)."""
    return {
        name: make(
            config.optimizer, lambda count, rate=rate: rate, config.adam_eps, config.max_grad_norm
        )
        for name, rate in config.rates.items()
    }


def sample_batch(spec: EnvSpec, config: Config, rng: np.random.Generator) -> tuple[Batch, Noise]:
    """A random, valid batch and its noise, as float32 NumPy arrays."""
    batch = off_policy.sample_batch(spec, config, rng)
    return batch, Noise(*(sample(draw, rng) for draw in step_noise(spec, config)))
