"""Test cases and checks of TD3."""

from __future__ import annotations

from typing import Any

import numpy as np

from tiebreak.algorithms.td3.config import Config
from tiebreak.core.types import EnvSpec
from tiebreak.verify import off_policy_checks as checks
from tiebreak.verify.case import Case
from tiebreak.verify.compare import ErrorTable
from tiebreak.verify.off_policy_checks import batch_near, check_updates
from tiebreak.verify.parity import check_loading

__all__ = ["batch_near", "check_updates"]

ACTIONS = ("continuous",)


def draw(seed: int, actions: str) -> Case:
    """Draw the case of a seed: sizes, switches and constants, all small."""
    rng = np.random.default_rng([seed, actions == "discrete"])
    shape = tuple(int(n) for n in rng.integers(1, 5, size=rng.integers(1, 4)))
    low = rng.uniform(-3.0, -0.1, size=rng.integers(1, 6)).tolist()
    high = (low + rng.uniform(0.5, 4.0, size=len(low))).tolist()
    spec = EnvSpec.make(observation_shape=shape, action_low=low, action_high=high)
    settings = checks.drawn_settings(rng)
    delay, groups = (int(n) for n in rng.integers((1, 1), (4, 3)))
    settings["num_updates"] = delay * groups
    config = Config(
        **settings,
        policy_delay=delay,
        actor_lr=float(10 ** rng.uniform(-3.0, -1.5)),
        critic_lr=float(10 ** rng.uniform(-3.0, -1.5)),
        tau=float(10 ** rng.uniform(-2.5, -0.5)),
        exploration_noise=float(rng.uniform(0.05, 0.5)),
        target_noise=float(rng.uniform(0.1, 0.5)),
        noise_clip=float(rng.uniform(0.1, 0.6)),
        hidden_sizes=tuple(int(n) for n in rng.integers(3, 18, size=rng.integers(1, 4))),
        activation="tanh" if rng.random() < 0.5 else "relu",
    )
    return Case("td3", spec, config, seed)


def fixed(actions: str) -> Case:
    """Return the small case that quick runs and lock-step use; two groups in a round."""
    del actions
    spec = EnvSpec.make(observation_shape=(2, 3), action_low=(-0.4, -2.0), action_high=(0.4, 1.0))
    config = Config(
        **{**checks.SMALL, "num_updates": 4}, total_steps=4_000, num_steps=2, policy_delay=2,
        actor_lr=2e-3, critic_lr=3e-3, tau=0.05, hidden_sizes=(17, 9),
    )  # fmt: skip
    return Case("td3", spec, config, 0)


def counts(case: Case) -> dict[str, int]:
    """Return the update counts to start from: small, so that both of them matter."""
    return {"adam/count": 7 * case.config.policy_delay, "adam/actor_count": 7}


def policy_probes(case: Case, noise: np.ndarray) -> list[np.ndarray]:
    """Return noise that reveals the policy: greedy, two steps around it, and the bounds."""
    del case
    return [0.0 * noise, 0.0 * noise + 1.0, 0.0 * noise - 1.0, 0.0 * noise + 1e3]


def check_knobs(errors: ErrorTable, runtime: Any, case: Case) -> None:
    """Check settings whose defaults differ between libraries, each where it decides alone."""
    weights = check_loading(errors, runtime, case)
    sgd = {"optimizer": "sgd"}
    special_knobs = {
        "huge step": ({**sgd, "critic_lr": 0.3, "num_updates": 2}, {}),
        "huge step of the actor": ({**sgd, "actor_lr": 10.0, "num_updates": 2}, {}),
        "no delay": ({**sgd, "policy_delay": 1, "tau": 0.5}, {}),
        "one group": ({**sgd, "policy_delay": 4, "tau": 0.5}, {}),
        "targets copied": ({"tau": 1.0}, {}),
        "all smoothing clipped": ({**sgd, "target_noise": 50.0, "noise_clip": 0.3}, {}),
        "actions at the bounds": ({**sgd, "target_noise": 50.0, "noise_clip": 9.0}, {}),
        "raw observations": ({"normalize_obs": False}, {}),
    }
    checks.check_settings(
        errors, runtime, case, weights, {**checks.knobs(case.config), **special_knobs}
    )


def check_losses(errors: ErrorTable, runtime: Any, case: Case) -> None:
    """Check features, loss terms and raw gradients."""
    checks.check_gradients(errors, runtime, case, ("critic_gradients", "actor_gradients"))
