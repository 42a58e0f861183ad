"""Test cases and checks of DQN."""

from __future__ import annotations

from typing import Any

import numpy as np

from tiebreak.algorithms.dqn.config import Config
from tiebreak.algorithms.dqn.dqn_numpy import epsilon
from tiebreak.core.types import EnvSpec
from tiebreak.verify import off_policy_checks as checks
from tiebreak.verify.case import Case, exploring_probes
from tiebreak.verify.compare import ErrorTable
from tiebreak.verify.off_policy_checks import batch_near, check_updates
from tiebreak.verify.parity import check_loading

__all__ = ["batch_near", "check_updates"]

ACTIONS = ("discrete",)
OPTIONS = {"c51": {"num_atoms": 7, "v_min": -1.5, "v_max": 2.0}}
"""Settings that replace a part of the algorithm, of which certificates have one small case each."""


def draw(seed: int, actions: str) -> Case:
    """Draw the case of a seed: sizes, switches and constants, all small."""
    rng = np.random.default_rng([seed, actions == "discrete"])
    shape = tuple(int(n) for n in rng.integers(1, 5, size=rng.integers(1, 4)))
    spec = EnvSpec.make(observation_shape=shape, num_actions=int(rng.integers(2, 8)))
    settings = checks.drawn_settings(rng)
    round_steps, updates = settings["num_envs"] * settings["num_steps"], settings["num_updates"]
    config = Config(
        **settings,
        target_every=round_steps * int(rng.integers(1, 4)),  # so many times U updates
        learning_rate=float(10 ** rng.uniform(-3.0, -1.5)),
        exploration_fraction=0.02,
        double_q=bool(rng.random() < 0.5),
        hidden_sizes=tuple(int(n) for n in rng.integers(3, 18, size=rng.integers(1, 4))),
        activation="tanh" if rng.random() < 0.5 else "relu",
    )
    assert config.target_period % updates == 0
    return Case("dqn", spec, config, seed)


def fixed(actions: str) -> Case:
    """Return the small case that quick runs and lock-step use."""
    del actions
    spec = EnvSpec.make(observation_shape=(2, 3), num_actions=4)
    config = Config(
        **checks.SMALL, total_steps=4_000, num_steps=2, target_every=15 * 6, learning_rate=3e-3,
        hidden_sizes=(17, 9),
    )  # fmt: skip
    return Case("dqn", spec, config, 0)


def counts(case: Case) -> dict[str, int]:
    """Return the update count to start from: one update before the target network is due."""
    return {"adam/count": 3 * case.config.target_period - 1}


def policy_probes(case: Case, noise: np.ndarray) -> list[np.ndarray]:
    """Return noise that reveals the policy and its ε."""
    return exploring_probes(noise, epsilon(case.config, counts(case)["adam/count"]))


def check_knobs(errors: ErrorTable, runtime: Any, case: Case) -> None:
    """Check settings whose defaults differ between libraries, each where it decides alone."""
    weights = check_loading(errors, runtime, case)
    shared = checks.knobs(case.config)
    special_knobs = {
        "huge step": ({"optimizer": "sgd", "learning_rate": 10.0, "num_updates": 1}, {}),
        "double q": ({"double_q": True, "optimizer": "sgd"}, {}),
        "raw observations": ({"normalize_obs": False}, {}),
    }
    checks.check_settings(errors, runtime, case, weights, {**shared, **special_knobs})


def check_losses(errors: ErrorTable, runtime: Any, case: Case) -> None:
    """Check features, loss terms and raw gradients."""
    checks.check_gradients(errors, runtime, case, ("gradients",))
