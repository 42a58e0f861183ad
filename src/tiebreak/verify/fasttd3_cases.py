"""Test cases and checks of FastTD3."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tiebreak.algorithms.fasttd3.config import Config
from tiebreak.core.types import EnvSpec
from tiebreak.verify import off_policy_checks as checks
from tiebreak.verify.case import Case, cast, perturbed_weights
from tiebreak.verify.compare import ErrorTable
from tiebreak.verify.off_policy_checks import batch_near, check_updates
from tiebreak.verify.parity import check_loading, check_step

__all__ = ["batch_near", "check_updates"]

ACTIONS = ("continuous",)


def draw(seed: int, actions: str) -> Case:
    """Draw the case of a seed: sizes, switches and constants, all small."""
    rng = np.random.default_rng([seed, actions == "discrete"])
    shape = tuple(int(n) for n in rng.integers(1, 5, size=rng.integers(1, 4)))
    low = rng.uniform(-3.0, -0.1, size=rng.integers(1, 6)).tolist()
    high = (low + rng.uniform(0.5, 4.0, size=len(low))).tolist()
    visible = int(rng.integers(1, math.prod(shape) + 1)) if rng.random() < 0.5 else None
    spec = EnvSpec.make(
        observation_shape=shape, action_low=low, action_high=high, visible=visible
    )  # fmt: skip
    settings = checks.drawn_settings(rng)
    delay, groups = (int(n) for n in rng.integers((1, 1), (4, 3)))
    settings["num_updates"] = delay * groups
    config = Config(
        **settings,
        replay_size=1_000,
        policy_delay=delay,
        actor_lr=float(10 ** rng.uniform(-3.0, -1.5)),
        critic_lr=float(10 ** rng.uniform(-3.0, -1.5)),
        weight_decay=float(rng.uniform(0.0, 2.0)) if rng.random() < 0.8 else 0.0,
        tau=float(10 ** rng.uniform(-2.5, -0.5)),
        target_noise=float(rng.uniform(0.1, 0.5)),
        noise_clip=float(rng.uniform(0.1, 0.6)),
        num_atoms=int(rng.integers(2, 12)),
        v_min=float(rng.uniform(-4.0, -1.0)),
        v_max=float(rng.uniform(0.5, 4.0)),
        actor_sizes=_sizes(rng),
        critic_sizes=_sizes(rng),
        activation="tanh" if rng.random() < 0.5 else "relu",
        init_scale=float(10 ** rng.uniform(-2.0, 0.0)),
    )
    return Case("fasttd3", spec, config, seed)


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
        policy_delay=2, actor_lr=2e-3, critic_lr=3e-3, tau=0.05, target_noise=0.2, num_atoms=7,
        v_min=-2.0, v_max=3.0, actor_sizes=(17, 9), critic_sizes=(19, 8), init_scale=0.3,
    )  # fmt: skip
    return Case("fasttd3", spec, config, 0)


def counts(case: Case) -> dict[str, int]:
    """Return the update counts to start from: small, so that both of them matter."""
    return {"adam/count": 7 * case.config.policy_delay, "adam/actor_count": 7}


def policy_probes(case: Case, noise: np.ndarray) -> list[np.ndarray]:
    """Return noise that reveals the policy: greedy, two steps around it, and the bounds."""
    del case
    return [0.0 * noise, 0.0 * noise + 0.3, 0.0 * noise - 0.3, 0.0 * noise + 1e3]


def check_knobs(errors: ErrorTable, runtime: Any, case: Case) -> None:
    """Check settings whose defaults differ between libraries, each where it decides alone."""
    weights = check_loading(errors, runtime, case)
    sgd = {"optimizer": "sgd"}
    special_knobs = {
        "weight decay": ({"weight_decay": 30.0}, {}),
        "weight decay alone": ({**sgd, "weight_decay": 300.0, "max_grad_norm": 1e-9}, {}),
        "huge step": ({**sgd, "critic_lr": 1.0, "num_updates": 2}, {}),
        "huge step of the actor": ({**sgd, "actor_lr": 5.0, "num_updates": 2}, {}),
        "no delay": ({**sgd, "policy_delay": 1, "tau": 0.5}, {}),
        "one group": ({**sgd, "policy_delay": 4, "tau": 0.5}, {}),
        "targets copied": ({"tau": 1.0}, {}),
        "all smoothing clipped": ({**sgd, "target_noise": 50.0, "noise_clip": 0.3}, {}),
        "actions at the bounds": ({**sgd, "target_noise": 50.0, "noise_clip": 9.0}, {}),
        "returns beyond the atoms": ({**sgd, "v_min": -0.1, "v_max": 0.1}, {}),
        "raw observations": ({"normalize_obs": False}, {}),
    }
    checks.check_settings(errors, runtime, case, weights, special_knobs)
    # A step size of 100 would take weights away ten times over.
    still = case.changed(weight_decay=0.0)
    checks.check_settings(errors, runtime, still, weights, checks.knobs(case.config))
    two = case.changed(num_atoms=2)  # these change the layout of the weights
    changed_weights = cast(perturbed_weights(two), runtime.precision)
    check_step(errors, runtime, two, changed_weights, "L0", "two atoms")


def check_losses(errors: ErrorTable, runtime: Any, case: Case) -> None:
    """Check features, loss terms and raw gradients."""
    checks.check_gradients(errors, runtime, case, ("critic_gradients", "actor_gradients"))
