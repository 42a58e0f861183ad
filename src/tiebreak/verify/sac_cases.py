"""Test cases and checks of SAC."""

from __future__ import annotations

from typing import Any

import numpy as np

from tiebreak.algorithms.sac.config import Config
from tiebreak.algorithms.sac.data import COUNTS
from tiebreak.core.types import EnvSpec
from tiebreak.verify import off_policy_checks as checks
from tiebreak.verify.case import Case
from tiebreak.verify.compare import ErrorTable
from tiebreak.verify.off_policy_checks import batch_near, check_updates
from tiebreak.verify.parity import check_loading

__all__ = ["batch_near", "check_updates"]

ACTIONS = ("continuous",)
MORE_ACTIONS = ("discrete",)
"""Kinds of actions of which certificates have one small case (D12)."""
LOSSES = ("critic_gradients", "actor_gradients", "alpha_gradients")


def draw(seed: int, actions: str) -> Case:
    """Draw the case of a seed: sizes, switches and constants, all small."""
    rng = np.random.default_rng([seed, actions == "discrete"])
    shape = tuple(int(n) for n in rng.integers(1, 5, size=rng.integers(1, 4)))
    low = rng.uniform(-3.0, -0.1, size=rng.integers(1, 6)).tolist()
    high = (low + rng.uniform(0.5, 4.0, size=len(low))).tolist()
    spec = EnvSpec.make(observation_shape=shape, action_low=low, action_high=high)
    if actions == "discrete":
        spec = EnvSpec.make(observation_shape=shape, num_actions=len(low) + 1)
    rates = 10 ** rng.uniform(-3.0, -1.5, size=3)
    config = Config(
        **checks.drawn_settings(rng),
        actor_lr=float(rates[0]),
        critic_lr=float(rates[1]),
        alpha_lr=float(rates[2]),
        init_alpha=float(10 ** rng.uniform(-1.5, 0.5)),
        target_entropy_scale=float(rng.uniform(0.3, 1.5)),
        tau=float(10 ** rng.uniform(-2.5, -0.3)),
        log_std_min=float(rng.uniform(-5.0, -2.0)),
        log_std_max=float(rng.uniform(-0.5, 2.0)),
        hidden_sizes=tuple(int(n) for n in rng.integers(3, 18, size=rng.integers(1, 4))),
        activation="tanh" if rng.random() < 0.5 else "relu",
    )
    return Case("sac", spec, config, seed)


def fixed(actions: str) -> Case:
    """Return the small case that quick runs and lock-step use."""
    spec = EnvSpec.make(observation_shape=(2, 3), action_low=(-0.4, -2.0), action_high=(0.4, 1))
    if actions == "discrete":
        spec = EnvSpec.make(observation_shape=(2, 3), num_actions=4)
    config = Config(
        **checks.SMALL, total_steps=4_000, num_steps=2, actor_lr=1e-3, critic_lr=3e-3,
        alpha_lr=2e-3, init_alpha=0.3, tau=0.05, hidden_sizes=(17, 9),
    )  # fmt: skip
    return Case("sac", spec, config, 0)


def counts(case: Case) -> dict[str, int]:
    """Return the update counts to start from: unequal, so that a mix-up shows."""
    return {name: 40 - 10 * i for i, name in enumerate(COUNTS.values())}


def policy_probes(case: Case, noise: np.ndarray) -> list[np.ndarray]:
    """Return noise that reveals the policy: greedy, the bounds, one deviation around it.

    Of discrete actions: greedy, and each action forced in turn.
    """
    if case.spec.discrete:
        forced = 1e3 * np.eye(case.spec.action_size)
        return [0.0 * noise, *(0.0 * noise + row for row in forced)]
    return [0.0 * noise, 0.0 * noise + 1e3, 0.0 * noise - 1e3, np.sign(noise)]


def check_knobs(errors: ErrorTable, runtime: Any, case: Case) -> None:
    """Check settings whose defaults differ between libraries, each where it decides alone."""
    weights = check_loading(errors, runtime, case)
    sgd = {"optimizer": "sgd", "num_updates": 1}
    special_knobs = {
        "critics' step size": ({**sgd, "critic_lr": 0.1, "actor_lr": 0.0, "alpha_lr": 0.0}, {}),
        "actor's step size": ({**sgd, "actor_lr": 0.1, "critic_lr": 0.0, "alpha_lr": 0.0}, {}),
        "alpha's step size": ({**sgd, "alpha_lr": 1.0, "critic_lr": 0.0, "actor_lr": 0.0}, {}),
        "target entropy": ({**sgd, "target_entropy_scale": 5.0, "alpha_lr": 1.0}, {}),
        "target copied": ({"tau": 1.0}, {}),
        "target fixed": ({"tau": 0.0}, {}),
        "log std bounds": ({"log_std_min": -1.0, "log_std_max": -0.9}, {}),
        "first updates": ({}, dict.fromkeys(COUNTS.values(), 0)),
        "raw observations": ({"normalize_obs": False}, {}),
    }
    checks.check_settings(
        errors, runtime, case, weights, {**checks.knobs(case.config), **special_knobs}
    )


def check_losses(errors: ErrorTable, runtime: Any, case: Case) -> None:
    """Check features, and terms and raw gradients of every loss."""
    checks.check_gradients(errors, runtime, case, LOSSES)
