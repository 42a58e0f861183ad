"""Inputs and outputs of PQN's functions in every framework: batches, noise, terms, weights.

T is num_steps, N is num_envs, B is T * N, K is the number of actions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tiebreak.algorithms.pqn.config import Config
from tiebreak.core import noise
from tiebreak.core.networks import is_convolutional
from tiebreak.core.noise import Draw
from tiebreak.core.types import Array, EnvSpec, EnvStep
from tiebreak.frameworks import weights

COUNTS = {"q": "adam/count"}
"""Canonical name of each optimizer's step count, in the order of the updates."""
TARGETS = ()
"""Optimizers whose networks have target copies: none (D4)."""
STATISTICS = ("obs_moments",)
"""Running statistics in the state, by canonical name."""
NETWORKS = {"q": ("q",)}
"""Canonical names of the networks that each optimizer trains."""


class Act(NamedTuple):
    """Result of `act` for N observations."""

    action: Array
    """[N] int32, for the environment and the learner."""


class Rollout(NamedTuple):
    """PQN's batch: T steps of N environments; `[t]` of everything belongs to `obs[t]`."""

    obs: Array
    """[T, N, *obs]."""
    action: Array
    """[T, N] int32."""
    reward: Array
    """[T, N]: result of the action, as are the three fields below."""
    terminated: Array
    """[T, N] bool."""
    truncated: Array
    """[T, N] bool."""
    next_obs: Array
    """[T, N, *obs]: next observation before any automatic reset (EnvStep.final_obs)."""


def transition(obs: Array, act: Act, outcome: EnvStep) -> Rollout:
    """Return one row of a rollout."""
    return Rollout(
        obs=obs,
        action=act.action,
        reward=outcome.reward,
        terminated=outcome.terminated,
        truncated=outcome.truncated,
        next_obs=outcome.final_obs,
    )


class Noise(NamedTuple):
    """Random numbers of one `step`."""

    permutation: Array
    """[num_epochs, B] int32: the order in which each epoch visits the B = T * N steps, where step
    (t, n) has index t * N + n; minibatch m is the m-th equal slice."""


class Minibatch(NamedTuple):
    """Rows of the prepared rollout for the loss; leading axis B, or a slice of it."""

    obs: Array
    """[B, observation_size], flattened and, if configured, normalized."""
    action: Array
    target: Array
    """[B]: the λ-return (D2)."""


class LossTerms(NamedTuple):
    """Scalars of one loss evaluation (means over a minibatch)."""

    loss: Array
    q: Array
    """Mean Q of the actions in the minibatch."""
    target: Array
    """Mean value that Q is moved towards."""


class Metrics(NamedTuple):
    """Scalars of one iteration: means over all its updates, each of which is a minibatch."""

    loss: Array
    """½ mean (Q(obs, action) − target)² (D4)."""
    q: Array
    """Mean Q of the actions in the minibatch."""
    target: Array
    """Mean λ-return of scaled rewards, the value that Q is moved towards (D2 D9)."""
    grad_norm: Array
    """Global norm of the gradient before clipping (D5)."""


def act_noise(spec: EnvSpec, num_envs: int) -> Draw:
    """Return the draw of `act`, [N, 2]: one to decide on exploring, one for the action (D1)."""
    return Draw("uniform", (num_envs, 2))


def step_noise(spec: EnvSpec, config: Config) -> Noise:
    """Return the draws of one `step`."""
    return Noise(Draw("permutation", (config.num_epochs, config.batch_size)))


def initial_weights(spec: EnvSpec, config: Config, seed: int) -> weights.Weights:
    """Return the canonical weights of a new agent, with optimizer state and statistics (D8)."""
    rng = np.random.default_rng(seed)
    inputs, outputs = spec.observation_size, spec.action_size
    hidden = 2.0 if is_convolutional(config.network) else 1.0
    out = weights.normal_network(rng, "q", spec, config.layers, inputs, outputs, hidden)
    out = weights.with_adam(out, list(out))
    return weights.with_moments(out, "obs", (spec.observation_size,))


def make_optimizers(
    config: Config, make: Callable, schedule: Callable[[Config, Array], Array | float]
) -> dict[str, Any]:
    """Return the optimizer by name; `make` is a framework's `ops.make_optimizer` (D5).

    `schedule` is the framework's own `learning_rate`: config and step count -> step size (D6).
    """
    return {
        "q": make(
            config.optimizer, partial(schedule, config), config.adam_eps, config.max_grad_norm
        )
    }


def sample_batch(spec: EnvSpec, config: Config, rng: np.random.Generator) -> tuple[Rollout, Noise]:
    """Draw a valid rollout with ends of both kinds, and its noise, as NumPy arrays."""
    t, n = config.num_steps, config.num_envs
    obs, next_obs = spec.draw_observations(rng, (2, t, n, *spec.observation_shape))
    terminated = rng.random((t, n)) < 0.1
    rollout = Rollout(
        obs=obs,
        action=rng.integers(spec.action_size, size=(t, n), dtype=np.int32),
        reward=rng.standard_normal((t, n), dtype=np.float32),
        terminated=terminated,
        truncated=(rng.random((t, n)) < 0.1) & ~terminated,
        next_obs=next_obs,
    )
    return rollout, Noise(*(noise.sample(draw, rng) for draw in step_noise(spec, config)))
