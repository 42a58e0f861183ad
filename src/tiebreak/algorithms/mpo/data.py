"""What travels into and out of MPO's functions, in every framework, and how to make some.

U is num_updates, B is batch_size, N is num_envs, A is the action size, S is num_samples, M is the
number of objectives: 2 with the penalty for actions out of bounds, 1 without.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """The randomness of one `step`."""

    action: Array
    """[U, S, B, A], standard normal: the target policy's samples (D2)"""


class Samples(NamedTuple):
    """What the target networks say about next_obs: constants of the losses."""

    policy: Any
    """The target policy's distribution; mean and log_std [B, A]"""
    action: Array
    """[S, B, A], from it; not clipped"""
    value: Array
    """[S, B]: Q of the action, clipped"""


class LossTerms(NamedTuple):
    """Scalars of one evaluation of the losses; `loss` is the sum of the other three."""

    loss: Array
    critic_loss: Array
    policy_loss: Array
    dual_loss: Array
    q: Array
    """Mean of the first critic for the actions that were taken."""
    target: Array
    temperature: Array
    kl_q: Array
    """KL divergence of the reweighted samples from the target policy; `epsilon` bounds it."""
    kl_mean: Array
    """KL divergence that the change of the mean makes, averaged over dimensions."""
    kl_std: Array


class Metrics(NamedTuple):
    """Scalars of one `step`: means over its updates; norms are before clipping."""

    loss: Array
    critic_loss: Array
    policy_loss: Array
    dual_loss: Array
    q: Array
    target: Array
    temperature: Array
    kl_q: Array
    kl_mean: Array
    kl_std: Array
    actor_grad_norm: Array
    critic_grad_norm: Array


def act_noise(spec: EnvSpec, num_envs: int) -> Draw:
    """[N, A]; zeros are greedy: the policy's mean (D1)."""
    return Draw("normal", (num_envs, spec.action_size))


def step_noise(spec: EnvSpec, config: Config) -> Noise:
    """The draws of one `step`."""
    rows = config.num_updates, config.num_samples, config.batch_size
    return Noise(Draw("normal", (*rows, spec.action_size)))


def initial_dual(spec: EnvSpec, config: Config) -> dict[str, np.ndarray]:
    """The dual variables at first, before softplus: [M] and [A], [A]."""
    sizes = {"log_temperature": len(config.epsilons)}
    return {
        name: np.full(
            sizes.get(name, spec.action_size), getattr(config, f"init_{name}"), np.float32
        )
        for name in config.dual_names
    }


def initial_weights(spec: EnvSpec, config: Config, seed: int) -> weights.Weights:
    """The canonical dictionary of a new agent, targets and optimizer state included (D11)."""
    rng = np.random.default_rng(seed)
    sizes = spec.observation_size, *config.hidden_sizes, 2 * spec.action_size
    out = _network(rng, "actor", sizes, 0.01)
    for name in config.critics:
        sizes = spec.observation_size + spec.action_size, *config.critic_sizes, 1
        out.update(_network(rng, name, sizes, 1.0))
    targets = {f"target/{k}": v.copy() for k, v in out.items()}
    out.update({f"dual/{k}": v for k, v in initial_dual(spec, config).items()})
    out = weights.with_adam(out, list(out))
    return weights.with_moments({**out, **targets}, "obs", (spec.observation_size,))


def make_optimizers(config: Config, make: Callable) -> dict[str, Any]:
    """Return the optimizers by name; `make` is a framework's `ops.make_optimizer` (D9)."""
    return {
        name: make(config.optimizer, lambda count, rate=rate: rate, config.adam_eps, max_grad_norm)
        for name, (rate, max_grad_norm) in config.rates.items()
    }


def sample_batch(spec: EnvSpec, config: Config, rng: np.random.Generator) -> tuple[Batch, Noise]:
    """A random, valid batch and its noise, as float32 NumPy arrays."""
    batch = off_policy.sample_batch(spec, config, rng)
    return batch, Noise(*(noise.sample(draw, rng) for draw in step_noise(spec, config)))


def _network(rng: np.random.Generator, name: str, sizes: Sequence[int], last: float) -> dict:
    gains = [float(np.sqrt(2.0))] * (len(sizes) - 2)
    out = weights.init_mlp(rng, name, sizes, [*gains, last])
    out[f"{name}/norm/scale"] = np.ones(sizes[1], np.float32)
    out[f"{name}/norm/bias"] = np.zeros(sizes[1], np.float32)
    return out
