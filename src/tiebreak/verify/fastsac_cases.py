"""Test cases and checks of FastSAC."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tiebreak.algorithms.fastsac.config import Config
from tiebreak.algorithms.fastsac.data import COUNTS
from tiebreak.core.types import EnvSpec
from tiebreak.verify import off_policy_checks as checks
from tiebreak.verify.case import Case, cast, perturbed_weights
from tiebreak.verify.compare import ErrorTable
from tiebreak.verify.off_policy_checks import batch_near, check_updates
from tiebreak.verify.parity import check_loading, check_step

__all__ = ["batch_near", "check_updates"]

ACTIONS = ("continuous",)
LOSSES = ("critic_gradients", "actor_gradients")
"""Those of α are checked by the steps: they take the critics' entropy, and no batch."""


def draw(seed: int, actions: str) -> Case:
    """Draw the case of a seed: sizes, switches and constants, all small."""
    rng = np.random.default_rng([seed, actions == "discrete"])
    shape = tuple(int(n) for n in rng.integers(1, 5, size=rng.integers(1, 4)))
    low = rng.uniform(-3.0, -0.1, size=rng.integers(1, 6)).tolist()
    high = (low + rng.uniform(0.5, 4.0, size=len(low))).tolist()
    visible = int(rng.integers(1, math.prod(shape) + 1)) if rng.random() < 0.5 else None
    spec = EnvSpec.make(observation_shape=shape, action_low=low, action_high=high, visible=visible)
    settings = checks.drawn_settings(rng)
    delay, groups = (int(n) for n in rng.integers((1, 1), (4, 3)))
    settings["num_updates"] = delay * groups
    rates = 10 ** rng.uniform(-3.0, -1.5, size=3)
    config = Config(
        **settings,
        replay_size=1_000,
        policy_delay=delay,
        actor_lr=float(rates[0]),
        critic_lr=float(rates[1]),
        alpha_lr=float(rates[2]),
        adam_beta2=float(rng.uniform(0.9, 0.999)),
        weight_decay=float(rng.uniform(0.0, 2.0)) if rng.random() < 0.8 else 0.0,
        alpha_weight_decay=float(rng.uniform(0.0, 2.0)) if rng.random() < 0.8 else 0.0,
        init_alpha=float(10 ** rng.uniform(-1.5, 0.0)),
        target_entropy_scale=float(rng.uniform(0.0, 1.5)),
        tau=float(10 ** rng.uniform(-2.5, -0.5)),
        log_std_min=float(rng.uniform(-5.0, -2.0)),
        log_std_max=float(rng.uniform(-0.5, 1.0)),
        num_atoms=int(rng.integers(2, 12)),
        v_min=float(rng.uniform(-4.0, -1.0)),
        v_max=float(rng.uniform(0.5, 4.0)),
        network="norm_mlp" if rng.random() < 0.7 else "mlp",
        actor_sizes=_sizes(rng),
        critic_sizes=_sizes(rng),
        activation=("tanh", "relu", "silu")[int(rng.integers(3))],
    )
    return Case("fastsac", spec, config, seed)


def _sizes(rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(int(n) for n in rng.integers(3, 18, size=rng.integers(1, 4)))


def fixed(actions: str) -> Case:
    """Return the small case that quick runs and lock-step use.

    It has two groups in a round, and observations with a privileged part.
    """
    del actions
    spec = EnvSpec.make(
        observation_shape=(2, 3), action_low=(-0.4, -2.0), action_high=(0.4, 1.0), visible=4
    )
    config = Config(
        **{**checks.SMALL, "num_updates": 4}, total_steps=4_000, num_steps=2, replay_size=1_000,
        policy_delay=2, actor_lr=5e-4, critic_lr=7e-4, alpha_lr=1e-3, init_alpha=0.3,
        weight_decay=0.1, alpha_weight_decay=0.2, target_entropy_scale=0.5, tau=0.05, num_atoms=7,
        v_min=-2.0, v_max=3.0, actor_sizes=(17, 9), critic_sizes=(19, 8),
    )  # fmt: skip
    return Case("fastsac", spec, config, 0)


def counts(case: Case) -> dict[str, int]:
    """Return the update counts to start from: small and unequal, so that a mix-up shows."""
    critic, alpha, actor = COUNTS.values()
    return {critic: 7 * case.config.policy_delay, alpha: 5, actor: 7}


def policy_probes(case: Case, noise: np.ndarray) -> list[np.ndarray]:
    """Return noise that reveals the policy: greedy, the bounds, one deviation around it."""
    del case
    return [0.0 * noise, 0.0 * noise + 1e4, 0.0 * noise - 1e4, np.sign(noise)]


def check_knobs(errors: ErrorTable, runtime: Any, case: Case) -> None:
    """Check settings whose defaults differ between libraries, each where it decides alone."""
    weights = check_loading(errors, runtime, case)
    sgd = {"optimizer": "sgd"}
    still = dict.fromkeys(("critic_lr", "actor_lr", "alpha_lr"), 0.0)
    special_knobs = {
        "critics' step size": ({**sgd, **still, "critic_lr": 0.1}, {}),
        "actor's step size": ({**sgd, **still, "actor_lr": 0.1}, {}),
        "alpha's step size": ({**sgd, **still, "alpha_lr": 1.0}, {}),
        "target entropy": ({**sgd, "target_entropy_scale": 5.0, "alpha_lr": 1.0}, {}),
        "weight decay": ({"weight_decay": 30.0}, {}),
        "weight decay alone": ({**sgd, "weight_decay": 300.0, "max_grad_norm": 1e-9}, {}),
        "weight decay of alpha": ({"alpha_weight_decay": 300.0}, {}),
        "second moments": ({"adam_beta2": 0.5}, {}),
        "no delay": ({**sgd, "policy_delay": 1, "tau": 0.5}, {}),
        "one group": ({**sgd, "policy_delay": 4, "tau": 0.5}, {}),
        "targets copied": ({"tau": 1.0}, {}),
        "log std bounds": ({"log_std_min": -1.0, "log_std_max": -0.9}, {}),
        "returns beyond the atoms": ({**sgd, "v_min": -0.1, "v_max": 0.1}, {}),
        "first updates": ({}, dict.fromkeys(COUNTS.values(), 0)),
        "raw observations": ({"normalize_obs": False}, {}),
    }
    checks.check_settings(errors, runtime, case, weights, special_knobs)
    # A step size of 100 would take weights away ten times over.
    unweighted = case.changed(weight_decay=0.0, alpha_weight_decay=0.0)
    checks.check_settings(errors, runtime, unweighted, weights, checks.knobs(case.config))
    two = case.changed(num_atoms=2)  # these change the layout of the weights
    changed_weights = cast(perturbed_weights(two), runtime.precision)
    check_step(errors, runtime, two, changed_weights, "L0", "two atoms")


def check_losses(errors: ErrorTable, runtime: Any, case: Case) -> None:
    """Check features, loss terms and raw gradients."""
    checks.check_gradients(errors, runtime, case, LOSSES)
