"""Inputs and outputs of SAC's functions in every framework: batches, noise, terms, weights.

U is num_updates, B is batch_size, N is num_envs, A is the number of action dimensions, or
K of discrete actions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tiebreak.algorithms.sac.config import Config
from tiebreak.core import off_policy
from tiebreak.core.noise import Draw, sample
from tiebreak.core.off_policy import Act, Batch
from tiebreak.core.types import Array, EnvSpec
from tiebreak.frameworks import weights

__all__ = ["Act", "Batch"]

CRITICS = ("critic1", "critic2")
"""Canonical names of the two critics."""
COUNTS = {"critic": "adam/count", "actor": "adam/actor_count", "alpha": "adam/alpha_count"}
"""Canonical name of each optimizer's step count, in the order of the updates (D7)."""
TARGETS = ("critic",)
"""Optimizers whose networks have target copies."""
STATISTICS = ("obs_moments",)
"""Running statistics in the state, by canonical name."""
NETWORKS = {"critic": CRITICS, "actor": ("actor",), "alpha": ("log_alpha",)}
"""Canonical names of the networks that each optimizer trains."""


class Noise(NamedTuple):
    """Random numbers of one `step`: standard normal, [U, B, A] each (D1).

    Discrete actions need none: losses are expectations over all of them (D12).
    """

    next_action: Array
    """Samples the action after each transition, in the critics' target."""
    action: Array
    """Samples the action in the losses of the actor and of α."""


class CriticTerms(NamedTuple):
    """Scalars of the critics' loss (means over a batch)."""

    loss: Array
    q1: Array
    """Mean Q1 of the actions in the batch."""
    q2: Array
    target: Array
    """Mean value that both critics are moved towards."""


class ActorTerms(NamedTuple):
    """Scalars of the actor's loss."""

    loss: Array
    q: Array
    """Mean of the smaller of both critics at the policy's action."""
    entropy: Array
    """Mean −log π (D2)."""


class AlphaTerms(NamedTuple):
    """Scalars of the temperature's loss."""

    loss: Array
    alpha: Array
    """Temperature before the update."""


class Metrics(NamedTuple):
    """Scalars of one `step`: means over its updates."""

    critic_loss: Array
    """mean (Q1(obs, action) − y)² + mean (Q2(obs, action) − y)² (D4)."""
    q1: Array
    """Mean Q1 of the actions in the batch."""
    q2: Array
    """Mean Q2 of the actions in the batch."""
    target: Array
    """Mean y = r + d·(min(Q1′, Q2′)(next_obs, a′) − α·log π(a′)), by the target critics."""
    actor_loss: Array
    """mean (α·log π(a) − min(Q1, Q2)(obs, a)) (D5)."""
    actor_q: Array
    """Mean of the smaller of both critics at the policy's action."""
    entropy: Array
    """Mean −log π(a), in nats (D2)."""
    alpha_loss: Array
    """−log α · (mean log π(a) + H), with H = −target_entropy_scale·A (D6)."""
    alpha: Array
    """Temperature α before the update."""
    critic_norm: Array
    """Global norm of the critics' gradient before clipping."""
    actor_norm: Array
    """Global norm of the actor's gradient before clipping."""


def act_noise(spec: EnvSpec, num_envs: int) -> Draw:
    """Return the draw of `act`, [N, A]: Gumbel for discrete actions; zeros are greedy (D1)."""
    return Draw("gumbel" if spec.discrete else "normal", (num_envs, spec.action_size))


def step_noise(spec: EnvSpec, config: Config) -> Noise:
    """Return the draws of one `step`."""
    size = 1 if spec.discrete else spec.action_size
    draw = Draw("normal", (config.num_updates, config.batch_size, size))
    return Noise(draw, draw)


def initial_weights(spec: EnvSpec, config: Config, seed: int) -> weights.Weights:
    """Return the canonical weights of a new agent, with targets and optimizer state (D10)."""
    rng = np.random.default_rng(seed)
    observation, action = spec.observation_size, spec.action_size
    layers = config.layers
    if spec.discrete:  # D12
        actor_outputs, critic_inputs, critic_outputs = action, observation, action
    else:
        actor_outputs, critic_inputs, critic_outputs = 2 * action, observation + action, 1

    out = weights.init_network(rng, "actor", spec, layers, observation, actor_outputs, gain=1.0)
    critics: weights.Weights = {}
    for name in CRITICS:
        network = weights.init_network(
            rng, name, spec, layers, critic_inputs, critic_outputs, gain=1.0
        )
        critics.update(network)
    out.update(critics)
    out["log_alpha"] = np.asarray(np.log(config.init_alpha), np.float32)

    out = weights.with_adam(out, list(out))
    out.update(weights.target_copies(critics, critics))
    out.update({count: np.zeros((), np.int32) for count in COUNTS.values()})
    return weights.with_moments(out, "obs", (observation,))


def make_optimizers(config: Config, make: Callable) -> dict[str, Any]:
    """Return the optimizers by name; `make` is a framework's `ops.make_optimizer` (D8)."""
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
