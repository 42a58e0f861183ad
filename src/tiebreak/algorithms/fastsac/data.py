"""Inputs and outputs of FastSAC's functions in every framework: batches, noise, terms, weights.

U is num_updates, B is batch_size, N is num_envs, A is the number of action dimensions, K is
num_atoms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tiebreak.algorithms.fastsac.config import Config
from tiebreak.core import networks, off_policy
from tiebreak.core.noise import Draw, sample
from tiebreak.core.off_policy import Act, Batch, actor_spec
from tiebreak.core.types import Array, EnvSpec
from tiebreak.frameworks import weights

__all__ = ["Act", "Batch", "actor_spec"]

CRITICS = ("critic1", "critic2")
"""Canonical names of the two critics."""
COUNTS = {"critic": "adam/count", "alpha": "adam/alpha_count", "actor": "adam/actor_count"}
"""Canonical name of each optimizer's step count, in the order of the updates (D7)."""
TARGETS = ("critic",)
"""Optimizers whose networks have target copies."""
STATISTICS = ("obs_moments",)
"""Running statistics in the state, by canonical name."""
NETWORKS = {"critic": CRITICS, "alpha": ("log_alpha",), "actor": ("actor",)}
"""Canonical names of the networks that each optimizer trains."""


class Noise(NamedTuple):
    """Random numbers of one `step`: standard normal (D1)."""

    next_action: Array
    """[U, B, A]: samples the action after each transition, in the critics' target."""
    action: Array
    """[U / policy_delay, B, A]: samples the action in the loss of the actor."""


class Target(NamedTuple):
    """Targets of the critics, and the entropy of the actions that they are computed from."""

    first: Array
    """[B, K]: distribution for the first critic."""
    second: Array
    """[B, K]: distribution for the second critic."""
    entropy: Array
    """Mean −log π(a′); a scalar."""


class CriticTerms(NamedTuple):
    """Scalars of one evaluation of the critics' loss (means over a batch)."""

    loss: Array
    q1: Array
    """Mean return that the first critic expects of the actions in the batch."""
    q2: Array
    target: Array
    """Mean return of the two distributions that the critics are moved towards."""
    entropy: Array
    """Mean −log π(a′) of the actions in the target (D2)."""


class AlphaTerms(NamedTuple):
    """Scalars of the temperature's loss."""

    loss: Array
    alpha: Array
    """Temperature before the update."""


class ActorTerms(NamedTuple):
    """Scalars of one evaluation of the actor's loss."""

    loss: Array
    q: Array
    """Mean over both critics of the returns that they expect of the policy's actions."""


class Metrics(NamedTuple):
    """Scalars of one `step`: means over its updates."""

    critic_loss: Array
    """Sum over both critics of mean −Σ yₖ·log pₖ(obs, action): their cross entropies (D4)."""
    q1: Array
    """Mean return that the first critic expects of the actions in the batch, E[p₁]."""
    q2: Array
    """Mean return that the second critic expects of them, E[p₂]."""
    target: Array
    """Mean return of the distributions y₁ and y₂ that the critics are moved towards (D4)."""
    entropy: Array
    """Mean −log π(a′) of the actions in the target, in nats (D2)."""
    critic_norm: Array
    """Global norm of the critics' gradient before clipping."""
    alpha_loss: Array
    """α·(mean −log π(a′) − H), with H = −target_entropy_scale·A (D6)."""
    alpha: Array
    """Temperature α before the update."""
    actor_loss: Array
    """mean (α·log π(a) − ½ (E[p₁] + E[p₂])(obs, a)), over the updates of the actor (D5)."""
    actor_q: Array
    """Mean of ½ (E[p₁] + E[p₂])(obs, a) at the policy's actions."""
    actor_norm: Array
    """Global norm of the actor's gradient before clipping."""


def act_noise(spec: EnvSpec, num_envs: int) -> Draw:
    """Return the draw of `act`, [N, A]; zeros are greedy (D1)."""
    return Draw("normal", (num_envs, spec.action_size))


def step_noise(spec: EnvSpec, config: Config) -> Noise:
    """Return the draws of one `step`."""
    batch = (config.batch_size, spec.action_size)
    return Noise(
        next_action=Draw("normal", (config.num_updates, *batch)),
        action=Draw("normal", (config.num_updates // config.policy_delay, *batch)),
    )


def initial_weights(spec: EnvSpec, config: Config, seed: int) -> weights.Weights:
    """Return the canonical weights of a new agent, with targets and optimizer state (D9)."""
    rng = np.random.default_rng(seed)
    observation, action = spec.observation_size, spec.action_size
    actor, critic = config.actor_layers, config.critic_layers
    inputs = observation + action

    out = weights.uniform_network(rng, "actor", spec, actor, spec.visible_size, 2 * action)
    if not networks.is_own(config.network):
        kernels = [name for name in out if name.endswith("/kernel")]
        last = kernels[-1].removesuffix("/kernel")  # in the order of the layers
        for kind in ("kernel", "bias"):
            out[f"{last}/{kind}"] = np.zeros_like(out[f"{last}/{kind}"])
    critics: weights.Weights = {}
    for name in CRITICS:
        critics.update(weights.uniform_network(rng, name, spec, critic, inputs, config.num_atoms))
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
            config.optimizer,
            lambda count, rate=rate: rate,
            config.adam_eps,
            config.max_grad_norm,
            config.decays[name],
            config.adam_beta2,
        )
        for name, rate in config.rates.items()
    }


def sample_batch(spec: EnvSpec, config: Config, rng: np.random.Generator) -> tuple[Batch, Noise]:
    """Draw a valid batch and its noise, as float32 NumPy arrays."""
    batch = off_policy.sample_batch(spec, config, rng)
    return batch, Noise(*(sample(draw, rng) for draw in step_noise(spec, config)))
