"""Inputs and outputs of FastTD3's functions in every framework: batches, noise, terms, weights.

U is num_updates, B is batch_size, N is num_envs, A is the number of action dimensions, K is
num_atoms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tiebreak.algorithms.fasttd3.config import Config
from tiebreak.core import networks, off_policy
from tiebreak.core.noise import Draw, sample
from tiebreak.core.off_policy import Act, Batch, actor_spec
from tiebreak.core.types import Array, EnvSpec
from tiebreak.frameworks import weights

__all__ = ["Act", "Batch", "actor_spec"]

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
    """Random numbers of one `step`."""

    target: Array
    """[U, B, A] standard normal: smooths the policy in the critics' target (D2)."""


class CriticTerms(NamedTuple):
    """Scalars of one evaluation of the critics' loss (means over a batch)."""

    loss: Array
    q1: Array
    """Mean return that the first critic expects of the actions in the batch."""
    q2: Array
    target: Array
    """Mean return of the distributions that both critics are moved towards."""


class ActorTerms(NamedTuple):
    """Scalars of one evaluation of the actor's loss."""

    loss: Array


class Metrics(NamedTuple):
    """Scalars of one `step`: means over its updates."""

    critic_loss: Array
    """Sum over both critics of mean −Σ y·log p(obs, action): their cross entropies (D4)."""
    q1: Array
    """Mean return that the first critic expects of the actions in the batch, E[p₁]."""
    q2: Array
    """Mean return that the second critic expects of them, E[p₂]."""
    target: Array
    """Mean return of the distribution y that both critics are moved towards (D3 D4)."""
    critic_norm: Array
    """Global norm of the critics' gradient before clipping."""
    actor_loss: Array
    """−mean min(E[p₁], E[p₂])(obs, π(obs)), over the updates of the actor (D5)."""
    actor_norm: Array
    """Global norm of the actor's gradient before clipping."""


def act_noise(spec: EnvSpec, num_envs: int) -> Draw:
    """Return the draw of `act`, [N, A], which the loop multiplies by an episode's σ (D1)."""
    return Draw("normal", (num_envs, spec.action_size))


def noise_scales(config: Config) -> tuple[float, float]:
    """Return the range from which an episode's σ is drawn (D1).

    Loops keep a σ per environment for algorithms that have this function.
    """
    return config.noise_min, config.noise_max


def step_noise(spec: EnvSpec, config: Config) -> Noise:
    """Return the draws of one `step`."""
    return Noise(Draw("normal", (config.num_updates, config.batch_size, spec.action_size)))


def initial_weights(spec: EnvSpec, config: Config, seed: int) -> weights.Weights:
    """Return the canonical weights of a new agent, with targets and optimizer state (D8)."""
    rng = np.random.default_rng(seed)
    observation, action = spec.observation_size, spec.action_size
    actor, critic = config.actor_layers, config.critic_layers
    inputs = observation + action

    out = weights.uniform_network(rng, "actor", spec, actor, spec.visible_size, action)
    if not networks.is_own(config.network):
        kernels = [name for name in out if name.endswith("/kernel")]
        last = kernels[-1].removesuffix("/kernel")  # in the order of the layers
        normal = rng.standard_normal(out[f"{last}/kernel"].shape, dtype=np.float32)
        out[f"{last}/kernel"] = np.float32(config.init_scale) * normal
        out[f"{last}/bias"] = np.zeros_like(out[f"{last}/bias"])
    critics: weights.Weights = {}
    for name in CRITICS:
        critics.update(weights.uniform_network(rng, name, spec, critic, inputs, config.num_atoms))
    out.update(critics)

    out = weights.with_adam(out, list(out))
    out.update(weights.target_copies(critics, critics))
    out["adam/actor_count"] = np.zeros((), np.int32)
    return weights.with_moments(out, "obs", (observation,))


def make_optimizers(config: Config, make: Callable) -> dict[str, Any]:
    """Return the optimizers by name; `make` is a framework's `ops.make_optimizer` (D7)."""
    return {
        name: make(
            config.optimizer,
            lambda count, rate=rate: rate,
            config.adam_eps,
            config.max_grad_norm,
            config.weight_decay,
        )
        for name, rate in config.rates.items()
    }


def sample_batch(spec: EnvSpec, config: Config, rng: np.random.Generator) -> tuple[Batch, Noise]:
    """Draw a valid batch and its noise, as float32 NumPy arrays."""
    batch = off_policy.sample_batch(spec, config, rng)
    return batch, Noise(*(sample(draw, rng) for draw in step_noise(spec, config)))
