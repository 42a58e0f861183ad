"""Test cases and checks of MPO."""

from __future__ import annotations

from typing import Any

import numpy as np

from tiebreak.algorithms.mpo.config import Config
from tiebreak.core.types import EnvSpec
from tiebreak.verify import off_policy_checks as checks
from tiebreak.verify.case import Case, cast, perturbed_weights
from tiebreak.verify.compare import ErrorTable
from tiebreak.verify.off_policy_checks import batch_near, check_updates
from tiebreak.verify.parity import check_loading, check_step

__all__ = ["batch_near", "check_updates"]

ACTIONS = ("continuous",)


def draw(seed: int, actions: str) -> Case:
    """Draw the case of a seed: sizes, switches and constants, all small.

    dual="slsqp" is not drawn: TensorFlow's XLA mode has no way to the host.
    """
    rng = np.random.default_rng([seed, actions == "discrete"])
    shape = tuple(int(n) for n in rng.integers(1, 5, size=rng.integers(1, 4)))
    low = rng.uniform(-3.0, -0.1, size=rng.integers(1, 6)).tolist()
    high = (low + rng.uniform(0.5, 4.0, size=len(low))).tolist()
    spec = EnvSpec.make(observation_shape=shape, action_low=low, action_high=high)
    sizes = [tuple(int(n) for n in rng.integers(4, 18, size=rng.integers(1, 4))) for _ in range(2)]
    config = Config(
        **checks.drawn_settings(rng),
        learning_rate=float(10 ** rng.uniform(-3.0, -2.0)),
        dual_lr=float(10 ** rng.uniform(-3.0, -1.0)),
        dual="newton" if rng.random() < 0.5 else "gradient",
        num_samples=int(rng.integers(3, 8)),
        epsilon=float(rng.uniform(0.05, 0.3)),
        epsilon_penalty=float(10 ** rng.uniform(-3.0, -1.5)) if rng.random() < 0.7 else 0.0,
        epsilon_mean=float(rng.uniform(0.01, 0.5)),
        epsilon_std=float(rng.uniform(0.01, 0.5)),
        init_log_temperature=float(rng.uniform(-1.0, 2.0)),
        init_log_alpha_mean=float(rng.uniform(-1.0, 2.0)),
        init_log_alpha_std=float(rng.uniform(-1.0, 2.0)),
        target_period=int(rng.integers(1, 4)),
        num_critics=int(rng.integers(1, 3)),
        hidden_sizes=sizes[0],
        critic_sizes=sizes[1],
        init_std=float(rng.uniform(0.3, 1.0)),
    )
    return Case("mpo", spec, config, seed)


def fixed(actions: str) -> Case:
    """Return the small case that quick runs and lock-step use."""
    del actions
    spec = EnvSpec.make(observation_shape=(2, 3), action_low=(-0.4, -2.0), action_high=(0.4, 1.0))
    config = Config(
        **checks.SMALL, total_steps=4_000, num_steps=2, learning_rate=2e-3, num_samples=5,
        init_log_temperature=0.5, init_log_alpha_mean=1.0, init_log_alpha_std=2.0, epsilon_std=0.02,
        target_period=6, num_critics=2, hidden_sizes=(17, 9), critic_sizes=(13, 7, 5),
    )  # fmt: skip
    return Case("mpo", spec, config, 0)


def counts(case: Case) -> dict[str, int]:
    """Return the update count to start from: one update before the target networks are due."""
    return {"adam/count": 3 * case.config.target_period - 1}


def policy_probes(case: Case, noise: np.ndarray) -> list[np.ndarray]:
    """Return noise that reveals the policy: mean, std, and the bounds."""
    del case
    steps = 0.0, 0.2, -0.2, 1e3
    return [np.full_like(noise, step) for step in steps]


def check_knobs(errors: ErrorTable, runtime: Any, case: Case) -> None:
    """Check settings whose defaults differ between libraries, each where it decides alone."""
    weights = check_loading(errors, runtime, case)
    sgd = {"optimizer": "sgd", "max_grad_norm": 0.0}
    special_knobs = {
        "huge step": ({**sgd, "learning_rate": 0.1, "num_updates": 1}, {}),
        "huge step of the duals": ({**sgd, "dual_lr": 10.0}, {}),
        "least dual variables": ({**sgd, "dual_lr": 1e4, "learning_rate": 0.0}, {}),
        "targets copied": ({"target_period": 1}, {}),
        "targets not due": ({"target_period": 1000}, {"adam/count": 7}),
        "raw observations": ({"normalize_obs": False}, {}),
    }
    checks.check_settings(
        errors, runtime, case, weights, {**checks.knobs(case.config), **special_knobs}
    )
    others: dict[str, dict] = {
        "temperature by slsqp": {"dual": "slsqp"},
        "temperature by newton": {"dual": "newton"},
        "temperature at its lowest": {"dual": "newton", "epsilon": 5.0},  # log 5 < 5
        "no penalty": {"epsilon_penalty": 0.0},
        "one critic": {"num_critics": 1},
    }
    for name, settings in others.items():  # these change the layout of the weights
        changed = case.changed(**settings)
        changed_weights = cast(perturbed_weights(changed), runtime.precision)
        check_step(errors, runtime, changed, changed_weights, "L0", name)


def check_losses(errors: ErrorTable, runtime: Any, case: Case) -> None:
    """Check features, loss terms and raw gradients."""
    checks.check_gradients(errors, runtime, case, ("gradients",))
