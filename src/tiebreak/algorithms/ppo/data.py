"""Inputs and outputs of PPO's functions in every framework: batches, noise, terms, weights.

T is num_steps, N is num_envs, B is T * N, A is the action size: of several choices (D13), the
values of all together. H is the width of the memory of a recurrent network (D14).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tiebreak.algorithms.ppo.config import Config
from tiebreak.core import networks, noise
from tiebreak.core.memory import Memory
from tiebreak.core.noise import Draw
from tiebreak.core.types import Array, EnvSpec, EnvStep
from tiebreak.frameworks import weights

COUNTS = {"actor_critic": "adam/count"}
"""Canonical name of each optimizer's step count, in the order of the updates."""
TARGETS = ()
"""Optimizers whose networks have target copies."""
STATISTICS = ("obs_moments", "return_moments", "running_return")
"""Running statistics in the state, by canonical name."""
RECURRENT_HEAD_GAIN = 2.0
"""Gain of the hidden layers of policy and value behind a recurrent network (D14)."""
NETWORKS = {"actor_critic": ("actor", "critic", "memory")}
"""Canonical names of the networks that each optimizer trains; `memory` is a recurrent network."""


class Act(NamedTuple):
    """Result of `act` for N observations."""

    action: Array
    """[N] int32, [N, choices] int32, or [N, A] floats within the bounds, for the environment."""
    raw_action: Array
    """The policy's sample before it is mapped to the bounds (D3), for the learner."""
    log_prob: Array
    """[N]: log-probability or log density of `raw_action`."""
    value: Array
    """[N]: the critic's estimate of the observation's value."""


class RecurrentAct(NamedTuple):
    """Result of `act` with a memory."""

    action: Array
    """As in Act, as are the three fields below."""
    raw_action: Array
    log_prob: Array
    value: Array
    hidden: Array
    """[N, H]: the memory after these observations (D14)."""


class Rollout(NamedTuple):
    """PPO's batch: T steps of N environments; `[t]` of everything belongs to `obs[t]` (D2)."""

    obs: Array
    """[T, N, *obs]."""
    action: Array
    """[T, N] int32, [T, N, choices] int32 or [T, N, A]: Act.raw_action."""
    log_prob: Array
    """[T, N]."""
    value: Array
    """[T, N]."""
    reward: Array
    """[T, N]: result of the action, as are the three fields below."""
    terminated: Array
    """[T, N] bool."""
    truncated: Array
    """[T, N] bool."""
    next_obs: Array
    """[T, N, *obs]: next observation before any automatic reset (EnvStep.final_obs)."""


class RecurrentRollout(NamedTuple):
    """A rollout with the memory at its start (D16)."""

    obs: Array
    """As in Rollout, as are the seven fields below."""
    action: Array
    log_prob: Array
    value: Array
    reward: Array
    terminated: Array
    truncated: Array
    next_obs: Array
    hidden: Array
    """[N, H]: Memory.hidden before the first step."""
    begins: Array
    """[N] bool: Memory.begins before the first step."""


def transition(obs: Array, act: Act | RecurrentAct, outcome: EnvStep) -> Rollout:
    """Return one row of a rollout."""
    return Rollout(
        obs=obs,
        action=act.raw_action,
        log_prob=act.log_prob,
        value=act.value,
        reward=outcome.reward,
        terminated=outcome.terminated,
        truncated=outcome.truncated,
        next_obs=outcome.final_obs,
    )


def with_memory(rollout: Rollout, memory: Memory) -> RecurrentRollout:
    """Return a rollout [T, N, …] with the memory before its first step."""
    return RecurrentRollout(*rollout, hidden=memory.hidden, begins=memory.begins)


class Noise(NamedTuple):
    """Random numbers of one `step`."""

    permutation: Array
    """[num_epochs, B] int32: the order in which each epoch visits the B = T * N steps, where step
    (t, n) has index t * N + n; minibatch m is the m-th equal slice. Of a recurrent network,
    [num_epochs, N]: the order of the environments (D16)."""


class Minibatch(NamedTuple):
    """Rows of the prepared rollout for the loss; leading axis B, or a slice of it."""

    obs: Array
    """[B, observation_size], flattened and, if configured, normalized."""
    action: Array
    log_prob: Array
    value: Array
    advantage: Array
    target: Array
    """[B]: the λ-return, advantage + value."""


class Sequences(NamedTuple):
    """Whole environments of the prepared rollout; leading axes [N, T], or a slice of N (D16)."""

    obs: Array
    """[N, T, observation_size], flattened and, if configured, normalized."""
    action: Array
    log_prob: Array
    value: Array
    advantage: Array
    target: Array
    hidden: Array
    """[N, H]: the memory before the first step."""
    begins: Array
    """[N, T] bool: an episode begins with the step, before which the memory counts as zero."""


class LossTerms(NamedTuple):
    """Scalars of one loss evaluation (means over a minibatch)."""

    loss: Array
    policy_loss: Array
    value_loss: Array
    entropy: Array
    approx_kl: Array
    clip_fraction: Array


class Metrics(NamedTuple):
    """Scalars of one iteration: means over all its updates, each of which is a minibatch."""

    loss: Array
    """policy_loss + value_coef · value_loss − entropy_coef · entropy."""
    policy_loss: Array
    """mean max(−Â·ρ, −Â·clip(ρ, 1 ± ε)), ρ the ratio of new to old probability (D5);
    with drift "dpo" mean (f − Â·ρ) (D15)."""
    value_loss: Array
    """½ mean of the squared error of the value, the larger of clipped and not clipped (D6)."""
    entropy: Array
    """Mean entropy of the policy, in nats."""
    approx_kl: Array
    """mean(ρ − 1 − log ρ): estimate of the KL divergence from the policy that acted."""
    clip_fraction: Array
    """Share of the samples with |ρ − 1| > ε."""
    grad_norm: Array
    """Global norm of the gradient before clipping (D8)."""


def act_noise(spec: EnvSpec, num_envs: int) -> Draw:
    """Return the draw of `act`: Gumbel for discrete actions, else normal; zeros are greedy (D1)."""
    return Draw("gumbel" if spec.discrete else "normal", (num_envs, spec.action_size))


def step_noise(spec: EnvSpec, config: Config) -> Noise:
    """Return the draws of one `step`."""
    rows = config.num_envs if config.recurrent else config.batch_size
    return Noise(Draw("permutation", (config.num_epochs, rows)))


def initial_weights(spec: EnvSpec, config: Config, seed: int) -> weights.Weights:
    """Return the canonical weights of a new agent, with optimizer state and statistics."""
    rng = np.random.default_rng(seed)
    seen, layers = networks.heads(spec, config.layers)
    inputs, actions = seen.observation_size, spec.action_size
    hidden_gain = RECURRENT_HEAD_GAIN if config.recurrent else weights.HIDDEN_GAIN
    out = weights.init_network(
        rng, "actor", seen, layers, inputs, actions, gain=0.01, hidden_gain=hidden_gain
    )
    if not spec.discrete:
        out["actor/log_std"] = np.full(actions, config.log_std_init, np.float32)
    out |= weights.init_network(
        rng, "critic", seen, layers, inputs, 1, gain=1.0, hidden_gain=hidden_gain
    )
    if config.recurrent:
        out |= weights.init_gru(rng, "memory", config.layers, spec.observation_size)
    out = weights.with_adam(out, list(out))
    out = weights.with_moments(out, "obs", (spec.observation_size,))
    out = weights.with_moments(out, "return", ())
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


def sample_batch(
    spec: EnvSpec, config: Config, rng: np.random.Generator
) -> tuple[Rollout | RecurrentRollout, Noise]:
    """Draw a valid rollout with ends of both kinds, and its noise, as NumPy arrays."""
    t, n = config.num_steps, config.num_envs
    obs, next_obs = spec.draw_observations(rng, (2, t, n, *spec.observation_shape))
    if spec.nvec is not None:
        action = rng.integers(spec.nvec, size=(t, n, len(spec.nvec)), dtype=np.int32)
        log_prob = np.full((t, n), -np.log(spec.nvec).sum())
    elif spec.discrete:
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
    rollout = Rollout(
        obs=obs,
        action=action,
        log_prob=log_prob,
        value=value,
        reward=reward,
        terminated=terminated,
        truncated=truncated,
        next_obs=next_obs,
    )
    draws = Noise(*(noise.sample(draw, rng) for draw in step_noise(spec, config)))
    if config.recurrent:
        hidden = rng.uniform(-1.0, 1.0, (n, config.hidden_sizes[-1])).astype(np.float32)
        return with_memory(rollout, Memory(hidden, begins=rng.random(n) < 0.3)), draws
    return rollout, draws
