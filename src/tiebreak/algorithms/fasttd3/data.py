"""What travels into and out of FastTD3's functions, in every framework, and how to make some.

U is num_updates, B is batch_size, N is num_envs, A is the number of action dimensions, K is
num_atoms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from tiebreak.algorithms.fasttd3.config import Config
from tiebreak.core import off_policy
from tiebreak.core.noise import Draw, sample
from tiebreak.core.off_policy import Act, Batch
from tiebreak.core.types import Array, EnvSpec
from tiebreak.frameworks import weights

__all__ = ["Act", "Batch"]

CRITICS = ("critic1", "critic2")
"""Canonical names of the two critics."""
COUNTS = {"critic": "adam/count", "actor": "adam/actor_count"}
"""Canonical name of each optimizer's step count, in the order of the updates (D6)."""
TARGETS = ("critic",)
"""Optimizers whose networks have target copies."""
STATISTICS = ("obs_moments",)
"""Running statistics in the state, by canonical name."""
NETWORKS = {"critic": CRITICS, "actor": ("actor",)}
"""Canonical names of the networks that each optimizer trains."""


class Noise(NamedTuple):
    """The randomness of one `step`."""

    target: Array
    """[U, B, A] standard normal: what smooths the policy in the critics' target (D2)."""


class CriticTerms(NamedTuple):
    """Scalars of one evaluation of the critics' loss (means over a batch)."""

    loss: Array
    q1: Array
    """Mean return that the first critic expects of the actions that were taken."""
    q2: Array
    target: Array
    """Mean of the distributions that both critics are moved towards."""


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
    """[N, A], by which the loop multiplies each environment's σ; zeros are greedy (D1)."""
    return Draw("normal", (num_envs, spec.action_size))


def noise_scales(config: Config) -> tuple[float, float]:
    """Between what an episode's σ is drawn; a loop that finds this function keeps them (D1)."""
    return config.noise_min, config.noise_max


def step_noise(spec: EnvSpec, config: Config) -> Noise:
    """The draws of one `step`."""
    return Noise(Draw("normal", (config.num_updates, config.batch_size, spec.action_size)))


def actor_spec(spec: EnvSpec) -> EnvSpec:
    """The environment as the actor sees it, without what is privileged (D9)."""
    return replace(spec, observation_shape=(spec.visible_size,), visible=None)


def initial_weights(spec: EnvSpec, config: Config, seed: int) -> weights.Weights:
    """The canonical dictionary of a new agent, targets and optimizer state included (D8)."""
    rng = np.random.default_rng(seed)
    act, last = spec.action_size, len(config.actor_sizes)
    out = weights.uniform_mlp(rng, "actor", (spec.visible_size, *config.actor_sizes, act))
    kernel, bias = out[f"actor/{last}/kernel"], out[f"actor/{last}/bias"]
    normal = rng.standard_normal(kernel.shape, dtype=np.float32)
    out.update({
        f"actor/{last}/kernel": np.float32(config.init_scale) * normal,
        f"actor/{last}/bias": np.zeros_like(bias),
    })  # fmt: skip
    critics: weights.Weights = {}
    for name in CRITICS:
        sizes = spec.observation_size + act, *config.critic_sizes, config.num_atoms
        critics.update(weights.uniform_mlp(rng, name, sizes))
    out = weights.with_adam({**out, **critics}, [*out, *critics])
    out.update({f"target/{k}": v.copy() for k, v in critics.items()})
    out["adam/actor_count"] = np.zeros((), np.int32)
    return weights.with_moments(out, "obs", (spec.observation_size,))


def make_optimizers(config: Config, make: Callable) -> dict[str, Any]:
    """Return the optimizers by name; `make` is a framework's `ops.make_optimizer` (D7)."""
    settings = config.adam_eps, config.max_grad_norm, config.weight_decay
    return {
        name: make(config.optimizer, lambda count, rate=rate: rate, *settings)
        for name, rate in config.rates.items()
    }


def sample_batch(spec: EnvSpec, config: Config, rng: np.random.Generator) -> tuple[Batch, Noise]:
    """A random, valid batch and its noise, as float32 NumPy arrays."""
    batch = off_policy.sample_batch(spec, config, rng)
    return batch, Noise(*(sample(draw, rng) for draw in step_noise(spec, config)))
