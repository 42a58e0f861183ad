"""Inputs and outputs of MPO's functions in every framework: batches, noise, terms, weights.

U is num_updates, B is batch_size, N is num_envs, A is the action size, S is num_samples, M is the
number of objectives: 2 with the penalty for actions out of bounds, 1 without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tiebreak.algorithms.mpo.config import Config
from tiebreak.core import noise, off_policy
from tiebreak.core.noise import Draw
from tiebreak.core.off_policy import Act, Batch
from tiebreak.core.types import Array, EnvSpec
from tiebreak.frameworks import weights

__all__ = ["Act", "Batch", "LossTerms", "Metrics", "Noise", "Samples"]

COUNTS = {"actor": "adam/count", "critic": "adam/count", "dual": "adam/count"}
"""Canonical name of each optimizer's step count, in the order of the updates: all share one."""
TARGETS = ("actor", "critic")
"""Optimizers whose networks have target copies."""
STATISTICS = ("obs_moments",)
"""Running statistics in the state, by canonical name."""
NETWORKS = {"actor": ("actor",), "critic": ("critic1", "critic2"), "dual": ("dual",)}
"""Canonical names of the networks that each optimizer trains; "critic2" only where the config has
two critics."""


class Noise(NamedTuple):
    """Random numbers of one `step`."""

    action: Array
    """[U, S, B, A] standard normal: samples the target policy (D2)."""


class Samples(NamedTuple):
    """Samples of the target policy at next_obs and their values; constants of the losses."""

    policy: Any
    """The target policy's distribution; mean and log_std [B, A]."""
    action: Array
    """[S, B, A], sampled from it; not clipped."""
    value: Array
    """[S, B]: Q of the clipped action."""


class LossTerms(NamedTuple):
    """Scalars of one evaluation of the losses; `loss` is the sum of the other three."""

    loss: Array
    critic_loss: Array
    policy_loss: Array
    dual_loss: Array
    q: Array
    """Mean Q of the actions in the batch, by the first critic."""
    target: Array
    """Mean value that the critics are moved towards."""
    temperature: Array
    """Temperature of the first objective."""
    kl_q: Array
    """KL divergence of the reweighted samples from the target policy; `epsilon` bounds it."""
    kl_mean: Array
    """KL divergence due to the change of the mean, averaged over dimensions."""
    kl_std: Array
    """KL divergence due to the change of the standard deviation, averaged over dimensions."""


class Metrics(NamedTuple):
    """Scalars of one `step`: means over its updates."""

    loss: Array
    """critic_loss + policy_loss + dual_loss."""
    critic_loss: Array
    """Sum over critics of ½ mean (Q(obs, action) − y)² (D3)."""
    policy_loss: Array
    """−mean Σ W·log N(a), plus the penalties α·kl of mean and deviation (D5 D6)."""
    dual_loss: Array
    """Σ g(η) + Σ α·(ε − kl): losses of the temperatures and multipliers (D4 D6)."""
    q: Array
    """Mean Q of the actions in the batch, by the first critic."""
    target: Array
    """Mean y = r + d·mean Q′(next_obs, a), which the critics are moved towards (D2)."""
    temperature: Array
    """Temperature η of the first objective."""
    kl_q: Array
    """KL of the reweighted samples from the target policy, in nats; `epsilon` bounds it."""
    kl_mean: Array
    """KL due to the change of the mean, averaged over dimensions; `epsilon_mean` bounds it."""
    kl_std: Array
    """KL due to the change of the standard deviation, likewise; `epsilon_std` bounds it."""
    actor_grad_norm: Array
    """Global norm of the policy's gradient before clipping (D9)."""
    critic_grad_norm: Array
    """Global norm of the critics' gradient before clipping (D9)."""


def act_noise(spec: EnvSpec, num_envs: int) -> Draw:
    """Return the draw of `act`, [N, A]; zeros are greedy: the policy's mean (D1)."""
    return Draw("normal", (num_envs, spec.action_size))


def step_noise(spec: EnvSpec, config: Config) -> Noise:
    """Return the draws of one `step`."""
    shape = (config.num_updates, config.num_samples, config.batch_size, spec.action_size)
    return Noise(Draw("normal", shape))


def initial_dual(spec: EnvSpec, config: Config) -> dict[str, np.ndarray]:
    """Return initial dual variables before softplus, by name: temperature [M], both α [A]."""
    initial = {
        "log_temperature": (len(config.epsilons), config.init_log_temperature),
        "log_alpha_mean": (spec.action_size, config.init_log_alpha_mean),
        "log_alpha_std": (spec.action_size, config.init_log_alpha_std),
    }
    return {name: np.full(*initial[name], np.float32) for name in config.dual_names}


def initial_weights(spec: EnvSpec, config: Config, seed: int) -> weights.Weights:
    """Return the canonical weights of a new agent, with targets and optimizer state (D11)."""
    rng = np.random.default_rng(seed)
    observation, action = spec.observation_size, spec.action_size
    actor, critic = config.actor_layers, config.critic_layers
    inputs = observation + action

    out = weights.init_network(rng, "actor", spec, actor, observation, 2 * action, gain=0.01)
    for name in config.critics:
        out.update(weights.init_network(rng, name, spec, critic, inputs, 1, gain=1.0))
    targets = weights.target_copies(out, out)
    out.update({f"dual/{k}": v for k, v in initial_dual(spec, config).items()})

    out = weights.with_adam(out, list(out))
    out.update(targets)
    return weights.with_moments(out, "obs", (observation,))


def make_optimizers(config: Config, make: Callable) -> dict[str, Any]:
    """Return the optimizers by name; `make` is a framework's `ops.make_optimizer` (D9)."""
    return {
        name: make(config.optimizer, lambda count, rate=rate: rate, config.adam_eps, max_grad_norm)
        for name, (rate, max_grad_norm) in config.rates.items()
    }


def sample_batch(spec: EnvSpec, config: Config, rng: np.random.Generator) -> tuple[Batch, Noise]:
    """Draw a valid batch and its noise, as float32 NumPy arrays."""
    batch = off_policy.sample_batch(spec, config, rng)
    return batch, Noise(*(noise.sample(draw, rng) for draw in step_noise(spec, config)))
