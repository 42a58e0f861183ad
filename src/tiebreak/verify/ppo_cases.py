"""Test cases and batches of PPO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tiebreak.algorithms.ppo import ppo_numpy as oracle
from tiebreak.algorithms.ppo.config import Config
from tiebreak.algorithms.ppo.data import Noise, RecurrentRollout, Rollout, sample_batch
from tiebreak.core.types import EnvSpec
from tiebreak.frameworks.numpy.ops import to_float64
from tiebreak.verify import on_policy_checks as checks
from tiebreak.verify.case import MULTI_DISCRETE, Case
from tiebreak.verify.compare import ErrorTable
from tiebreak.verify.on_policy_checks import check_losses, check_updates

__all__ = ["check_losses", "check_updates"]

ACTIONS = ("discrete", "continuous")
KINDS = ("continuous", "discrete", MULTI_DISCRETE)
"""All kinds of actions, in the order of the seeds of their cases."""

OPTIONS = {"dpo": {"drift": "dpo"}}
"""Settings that replace a part of the algorithm, of which certificates have one small case each."""


def draw(seed: int, actions: str) -> Case:
    """Draw the case of a seed: sizes, switches and constants, all small."""
    rng = np.random.default_rng([seed, KINDS.index(actions)])
    shape = tuple(int(n) for n in rng.integers(1, 5, size=rng.integers(1, 4)))
    if actions == "discrete":
        spec = EnvSpec.make(observation_shape=shape, num_actions=int(rng.integers(2, 8)))
    elif actions == MULTI_DISCRETE:
        sizes = rng.integers(1, 6, size=rng.integers(1, 5))
        spec = EnvSpec.make(observation_shape=shape, nvec=sizes.tolist())
    else:
        low = rng.uniform(-3.0, -0.1, size=rng.integers(1, 6)).tolist()
        high = (low + rng.uniform(0.5, 4.0, size=len(low))).tolist()
        spec = EnvSpec.make(observation_shape=shape, action_low=low, action_high=high)
    minibatches, rows, envs = (int(n) for n in rng.integers((1, 3, 1), (4, 9, 5)))
    flags = rng.random(8) < 0.5
    config = Config(
        total_steps=10 * rows * envs * minibatches,
        num_envs=envs,
        num_steps=rows * minibatches,
        num_minibatches=minibatches,
        num_epochs=int(rng.integers(1, 3)),
        learning_rate=float(10 ** rng.uniform(-3.0, -1.5)),
        anneal_lr=bool(flags[0]),
        gamma=float(rng.uniform(0.8, 0.999)),
        gae_lambda=float(rng.uniform(0.7, 0.999)),
        clip=float(rng.uniform(0.1, 0.3)),
        clip_value=bool(flags[1]),
        entropy_coef=float(rng.uniform(0.01, 0.1)),
        value_coef=float(rng.uniform(0.3, 1.0)),
        max_grad_norm=float(10 ** rng.uniform(-0.5, 0.5)),
        normalize_advantage=bool(flags[2]),
        optimizer="adam" if flags[7] else "sgd",
        hidden_sizes=tuple(int(n) for n in rng.integers(3, 18, size=rng.integers(1, 4))),
        activation="tanh" if flags[3] else "relu",
        log_std_init=float(rng.uniform(-0.7, 0.3)),
        normalize_obs=bool(flags[4]),
        normalize_reward=bool(flags[5]),
        truncation="bootstrap" if flags[6] else "terminal",
    )
    return Case("ppo", spec, config, seed)


def fixed(actions: str) -> Case:
    """Return the small case that quick runs and lock-step use, with the reference's switches."""
    if actions == "discrete":
        spec = EnvSpec.make(observation_shape=(5,), num_actions=3)
    elif actions == MULTI_DISCRETE:
        spec = EnvSpec.make(observation_shape=(5,), nvec=(3, 2, 4))
    else:
        spec = EnvSpec.make(observation_shape=(2, 3), action_low=(-0.4, -2.0), action_high=(0.4, 1))
    continuous = actions == "continuous"
    config = Config(
        total_steps=24 * 100,
        num_envs=3,
        num_steps=8,
        num_minibatches=2,
        num_epochs=2,
        learning_rate=3e-3,
        entropy_coef=0.02,
        hidden_sizes=(17, 9),
        normalize_obs=continuous,
        normalize_reward=continuous,
    )
    return Case("ppo", spec, config, 0)


def counts(case: Case) -> dict[str, int]:
    """Return the update count to start from: a third of the run."""
    done = case.config.num_iterations // 3
    return {"adam/count": case.config.updates_per_iteration * done}


def batch_near(
    case: Case, weights: Mapping[str, np.ndarray], index: int = 0
) -> tuple[Rollout | RecurrentRollout, Noise]:
    """Draw batch number `index`, so that both sides of every clip occur.

    Log-probabilities and values are moved near those of the policy and the critic.
    """
    rng = np.random.default_rng([case.seed, 2, index])
    rollout, noise = sample_batch(case.spec, case.config, rng)
    _add_outliers(case.config, rollout)
    weights = to_float64(weights)
    x = oracle.normalize_obs(case.spec, case.config, weights, rollout.obs)
    if isinstance(rollout, RecurrentRollout):
        x = oracle.states(case.spec, case.config, weights, rollout).reshape(len(x), -1)
    out, value = oracle.forward(case.spec, case.config, weights, x)
    action = rollout.action
    if not case.spec.discrete:
        std = np.exp(weights["actor/log_std"])
        action = (out + std * rng.standard_normal(out.shape)).astype(np.float32)
        rollout = rollout._replace(action=action.reshape(rollout.action.shape))
    rows = action.reshape(len(x), *rollout.action.shape[2:])
    log_prob, _ = oracle.log_prob_entropy(case.spec, weights, out, rows)
    log_prob = log_prob + 0.25 * rng.standard_normal(log_prob.shape)
    value = value + 0.25 * rng.standard_normal(value.shape)
    shape = rollout.value.shape
    near = rollout._replace(
        log_prob=log_prob.reshape(shape).astype(np.float32),
        value=value.reshape(shape).astype(np.float32),
    )
    return near, noise


def _add_outliers(config: Config, rollout: Rollout | RecurrentRollout) -> None:
    """Make some numbers large enough to be clipped by normalization, in place."""
    if config.normalize_obs:
        rollout.obs[0, 0] *= 100.0
        rollout.next_obs[-1, -1] *= 100.0
    if config.normalize_reward:
        rollout.reward[0, 0] += 60.0
        rollout.reward[-1, -1] -= 60.0


def policy_probes(case: Case, noise: np.ndarray) -> list[np.ndarray]:
    """Return noise that reveals the policy: greedy, and each discrete action forced in turn."""
    if not case.spec.discrete:
        return [0.0 * noise]
    return [0.0 * noise, *(0.0 * noise + forced for forced in 1e3 * np.eye(case.spec.action_size))]


def check_knobs(errors: ErrorTable, runtime: Any, case: Case) -> None:
    """Check settings whose defaults differ between libraries, each where it decides alone."""
    checks.check_settings(errors, runtime, case, KNOBS)


KNOBS: dict[str, tuple[dict, int, int]] = {
    "adam epsilon": ({"adam_eps": 0.1, "learning_rate": 1.0}, 3, 24),
    "adam betas": ({"adam_eps": 1e-8, "learning_rate": 0.1}, 0, 24),
    "std ddof": ({"normalize_advantage": True, "optimizer": "sgd", "learning_rate": 1.0}, 0, 3),
    "clip formula": ({"max_grad_norm": 1e-3, "optimizer": "sgd", "learning_rate": 100.0}, 0, 24),
    "no clip": ({"max_grad_norm": 1e3, "optimizer": "sgd", "learning_rate": 1.0}, 0, 24),
    "annealing": ({"optimizer": "sgd", "learning_rate": 1.0}, 203, 24),
    "annealed out": ({"optimizer": "sgd", "learning_rate": 1.0}, 10_000, 24),
}
"""Name -> settings that make one knob decide, update count to start from, number of rows."""
