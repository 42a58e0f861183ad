"""What travels into and out of PPO's functions, in every framework, and how to make some.

T is num_steps, N is num_envs, B is T * N, A is the action size.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tiebreak.algorithms.ppo.config import Config
from tiebreak.core import noise
from tiebreak.core.noise import Draw
from tiebreak.core.types import Array, EnvSpec, EnvStep
from tiebreak.frameworks import weights

COUNTS = {"actor_critic": "adam/count"}
"""Canonical name of each optimizer's step count, in the order of the updates."""
TARGETS = ()
"""Optimizers whose networks have target copies."""
STATISTICS = ("obs_moments", "return_moments", "running_return")
"""Running statistics in the state, by canonical name."""
NETWORKS = {"actor_critic": ("actor", "critic")}
"""Canonical names of the networks that each optimizer trains."""


class Act(NamedTuple):
    """What `act` returns for N observations."""

    action: Array
    """[N] int32, or [N, A] floats within the bounds: what the environment executes."""
    raw_action: Array
    """The policy's own sample, before it is fitted to the bounds (D3): what the learner stores."""
    log_prob: Array
    """[N]: log-probability (density) of `raw_action`."""
    value: Array
    """[N]: the critic's estimate for the observation."""


class Rollout(NamedTuple):
    """PPO's batch: T steps of N environments; `[t]` of everything belongs to `obs[t]` (D2)."""

    obs: Array
    """[T, N, *obs]"""
    action: Array
    """[T, N] int32 or [T, N, A]: Act.raw_action"""
    log_prob: Array
    """[T, N]"""
    value: Array
    """[T, N]"""
    reward: Array
    """[T, N]: the result of the action, like the three below"""
    terminated: Array
    """[T, N] bool"""
    truncated: Array
    """[T, N] bool"""
    next_obs: Array
    """[T, N, *obs]: what the action led to, before any automatic reset (EnvStep.final_obs)"""


def transition(obs: Array, act: Act, outcome: EnvStep) -> Rollout:
    """One row of a rollout."""
    return Rollout(
        obs,
        act.raw_action,
        act.log_prob,
        act.value,
        outcome.reward,
        outcome.terminated,
        outcome.truncated,
        outcome.final_obs,
    )


class Noise(NamedTuple):
    """The randomness of one iteration's update."""

    permutation: Array
    """[num_epochs, B] int32: the order in which each epoch visits the B = T * N steps, where step
    (t, n) has index t * N + n; minibatch m is the m-th equal slice."""


class Minibatch(NamedTuple):
    """Rows of the prepared rollout, as the loss sees them; leading axis B or a slice of it."""

    obs: Array
    """[B, observation_size], flattened and, if configured, normalized"""
    action: Array
    log_prob: Array
    value: Array
    advantage: Array
    target: Array
    """[B]: the λ-return, advantage + value"""


class LossTerms(NamedTuple):
    """Scalars of one loss evaluation (means over a minibatch)."""

    loss: Array
    policy_loss: Array
    value_loss: Array
    entropy: Array
    approx_kl: Array
    clip_fraction: Array


class Metrics(NamedTuple):
    """Scalars of one iteration: means over all its updates; grad_norm is before clipping."""

    loss: Array
    policy_loss: Array
    value_loss: Array
    entropy: Array
    approx_kl: Array
    clip_fraction: Array
    grad_norm: Array


def act_noise(spec: EnvSpec, num_envs: int) -> Draw:
    """Gumbel noise for discrete actions, Gaussian for continuous: both greedy at zero (D1)."""
    return Draw("gumbel" if spec.discrete else "normal", (num_envs, spec.action_size))


def step_noise(spec: EnvSpec, config: Config) -> Noise:
    """The draws of one `step`."""
    return Noise(Draw("permutation", (config.num_epochs, config.batch_size)))


def initial_weights(spec: EnvSpec, config: Config, seed: int) -> weights.Weights:
    """The canonical dictionary of a new agent, optimizer state and normalizers included."""
    rng = np.random.default_rng(seed)
    sizes, gain = (spec.observation_size, *config.hidden_sizes), float(np.sqrt(2.0))
    gains = [gain] * len(config.hidden_sizes)
    out = weights.init_mlp(rng, "actor", (*sizes, spec.action_size), [*gains, 0.01])
    if not spec.discrete:
        out["actor/log_std"] = np.full(spec.action_size, config.log_std_init, np.float32)
    out.update(weights.init_mlp(rng, "critic", (*sizes, 1), [*gains, 1.0]))
    out = weights.with_adam(out, list(out))
    for name, shape in (("obs", (spec.observation_size,)), ("return", ())):
        out = weights.with_moments(out, name, shape)
    out["running_return"] = np.zeros(config.num_envs, np.float32)
    return out


def make_optimizers(
    config: Config, make: Callable, schedule: Callable[[Config, Array], Array | float]
) -> dict[str, Any]:
    """Return the optimizer by name; `make` is a framework's `ops.make_optimizer` (D7, D8).

    `schedule` is the framework's own `learning_rate`: config and step count -> step size (D9).
    """
    return {
        "actor_critic": make(
            config.optimizer, partial(schedule, config), config.adam_eps, config.max_grad_norm
        )
    }


def sample_batch(spec: EnvSpec, config: Config, rng: np.random.Generator) -> tuple[Rollout, Noise]:
    """A random, valid rollout with ends of both kinds, and its noise, as float32 NumPy arrays."""
    t, n = config.num_steps, config.num_envs
    obs, next_obs = rng.standard_normal((2, t, n, *spec.observation_shape), dtype=np.float32)
    if spec.discrete:
        action = rng.integers(spec.action_size, size=(t, n), dtype=np.int32)
        log_prob = np.full((t, n), -np.log(spec.action_size))
    else:
        action = rng.standard_normal((t, n, spec.action_size), dtype=np.float32)
        scale = config.log_std_init
        z2 = ((action / np.exp(scale)) ** 2).sum(-1)
        log_prob = -0.5 * z2 - spec.action_size * (scale + 0.5 * np.log(2 * np.pi))
    log_prob = (log_prob + 0.2 * rng.standard_normal((t, n))).astype(np.float32)
    value, reward = rng.standard_normal((2, t, n), dtype=np.float32)
    terminated = rng.random((t, n)) < 0.1
    truncated = (rng.random((t, n)) < 0.1) & ~terminated
    rollout = Rollout(obs, action, log_prob, value, reward, terminated, truncated, next_obs)
    return rollout, Noise(*(noise.sample(draw, rng) for draw in step_noise(spec, config)))
