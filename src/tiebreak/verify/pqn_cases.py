"""Test cases and batches of PQN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tiebreak.algorithms.pqn.config import Config
from tiebreak.algorithms.pqn.data import Noise, Rollout, sample_batch
from tiebreak.algorithms.pqn.pqn_numpy import epsilon
from tiebreak.core.types import EnvSpec
from tiebreak.verify import on_policy_checks as checks
from tiebreak.verify.case import Case, cast, exploring_probes, perturbed_weights
from tiebreak.verify.compare import ErrorTable
from tiebreak.verify.on_policy_checks import check_losses
from tiebreak.verify.parity import check_step

__all__ = ["check_losses"]

ACTIONS = ("discrete",)


def draw(seed: int, actions: str) -> Case:
    """Draw the case of a seed: sizes, switches and constants, all small."""
    rng = np.random.default_rng([seed, actions == "discrete"])
    shape = tuple(int(n) for n in rng.integers(1, 5, size=rng.integers(1, 4)))
    spec = EnvSpec.make(observation_shape=shape, num_actions=int(rng.integers(2, 8)))
    minibatches, rows, envs = (int(n) for n in rng.integers((1, 3, 1), (4, 9, 5)))
    flags = rng.random(5) < 0.5
    config = Config(
        total_steps=10 * rows * envs * minibatches,
        num_envs=envs,
        num_steps=rows * minibatches,
        num_minibatches=minibatches,
        num_epochs=int(rng.integers(1, 3)),
        learning_rate=float(10 ** rng.uniform(-3.0, -1.5)),
        anneal_lr=bool(flags[0]),
        gamma=float(rng.uniform(0.8, 0.999)),
        q_lambda=float(rng.uniform(0.3, 0.999)),
        reward_scale=float(rng.uniform(0.1, 2.0)),
        epsilon_end=float(rng.uniform(0.0, 0.3)),
        exploration_fraction=float(rng.uniform(0.4, 0.9)),
        max_grad_norm=float(10 ** rng.uniform(-0.5, 0.5)),
        adam_eps=float(10 ** rng.uniform(-8, -4)),
        optimizer=str(rng.choice(("radam", "adam", "sgd"))),  # type: ignore[arg-type]
        network="norm_mlp" if flags[1] else "mlp",
        hidden_sizes=tuple(int(n) for n in rng.integers(3, 18, size=rng.integers(1, 4))),
        activation="tanh" if flags[2] else "relu",
        normalize_obs=bool(flags[3]),
        truncation="bootstrap" if flags[4] else "terminal",
    )
    return Case("pqn", spec, config, seed)


def fixed(actions: str) -> Case:
    """Return the small case that quick runs and lock-step use."""
    del actions
    spec = EnvSpec.make(observation_shape=(2, 3), num_actions=4)
    config = Config(
        total_steps=24 * 100,
        num_envs=3,
        num_steps=8,
        num_minibatches=2,
        num_epochs=2,
        learning_rate=3e-3,
        q_lambda=0.8,
        exploration_fraction=0.5,
        max_grad_norm=0.5,
        hidden_sizes=(17, 9),
        normalize_obs=True,
    )
    return Case("pqn", spec, config, 0)


def counts(case: Case) -> dict[str, int]:
    """Return the update count to start from: a third of the run."""
    done = case.config.num_iterations // 3
    return {"adam/count": case.config.updates_per_iteration * done}


def batch_near(
    case: Case, weights: Mapping[str, np.ndarray], index: int = 0
) -> tuple[Rollout, Noise]:
    """Draw batch number `index`; some observations are large enough to be clipped."""
    del weights
    rng = np.random.default_rng([case.seed, 2, index])
    rollout, noise = sample_batch(case.spec, case.config, rng)
    if case.config.normalize_obs:
        rollout.obs[0, 0] *= 100.0
        rollout.next_obs[-1, -1] *= 100.0
    return rollout, noise


def policy_probes(case: Case, noise: np.ndarray) -> list[np.ndarray]:
    """Return noise that reveals the policy and its ε."""
    return exploring_probes(noise, epsilon(case.config, counts(case)["adam/count"]))


def check_updates(errors: ErrorTable, runtime: Any, case: Case) -> None:
    """Check an update by each optimizer: Adam's first steps hide wrong factors, SGD's do not."""
    checks.check_updates(errors, runtime, case, ("radam", "adam", "sgd"))


def check_knobs(errors: ErrorTable, runtime: Any, case: Case) -> None:
    """Check settings whose defaults differ between libraries, each where it decides alone."""
    checks.check_settings(errors, runtime, case, UPDATE_KNOBS)
    weights = cast(perturbed_weights(case), runtime.precision)
    for name, settings in STEP_KNOBS.items():
        changed = case.changed(optimizer="sgd", **settings)
        check_step(errors, runtime, changed, weights, "L0", name)


UPDATE_KNOBS: dict[str, tuple[dict, int, int]] = {
    "radam epsilon": ({"adam_eps": 0.1, "learning_rate": 1.0}, 30, 24),
    "radam before its variance is known": ({"learning_rate": 0.1}, 4, 24),
    "radam once its variance is known": ({"learning_rate": 0.1}, 5, 24),
    "radam betas": ({"learning_rate": 0.1}, 0, 24),
    "adam epsilon": ({"optimizer": "adam", "adam_eps": 0.1, "learning_rate": 1.0}, 3, 24),
    "clip formula": ({"max_grad_norm": 1e-3, "optimizer": "sgd", "learning_rate": 100.0}, 0, 24),
    "no clip": ({"max_grad_norm": 1e3, "optimizer": "sgd", "learning_rate": 1.0}, 0, 24),
    "annealing": ({"optimizer": "sgd", "learning_rate": 1.0}, 203, 24),
    "annealed out": ({"optimizer": "sgd", "learning_rate": 1.0}, 10_000, 24),
}
"""Name -> settings that make one knob decide, update count to start from, number of rows."""
STEP_KNOBS: dict[str, dict] = {
    "one step": {"q_lambda": 0.0},
    "whole rollout": {"q_lambda": 1.0},
    "time limits end": {"truncation": "terminal"},
    "rewards as they are": {"reward_scale": 1.0},
    "raw observations": {"normalize_obs": False},
}
"""Name -> settings that make one knob decide in a whole step."""
