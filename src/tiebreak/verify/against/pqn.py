"""PQN's terms, and what libraries compute otherwise than our specification says.

An update is a whole iteration: λ-returns, then all epochs and minibatches, of which the problem has
one. There are more than the five updates in which RAdam knows no variance yet.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from tiebreak.frameworks.numpy.ops import BETA1, BETA2
from tiebreak.verify.against.deviations import replaced, scaled
from tiebreak.verify.against.rules import Deviation, Rules, Stage

SETTINGS: dict[str, Any] = {
    "total_steps": 1_000, "num_envs": 3, "num_steps": 8, "num_minibatches": 1, "num_epochs": 1,
    "learning_rate": 3e-3, "anneal_lr": False, "gamma": 0.97, "q_lambda": 0.8, "reward_scale": 0.5,
    "max_grad_norm": 0.5, "adam_eps": 1e-4, "network": "mlp", "hidden_sizes": (9, 7),
}  # fmt: skip


def returns_per_step(arguments: tuple, out: Any) -> dict[str, np.ndarray]:
    """Return the λ-returns for each step [T, N]."""
    _, rows = out
    return {"target": rows.target.reshape(np.shape(arguments[-1].reward))}


def last_value_twice(lambda_returns: Callable) -> Callable:
    """Value step T − 2 by the observation after the rollout, as step T − 1 (D2)."""

    def call(config: Any, rollout: Any, next_q: np.ndarray) -> np.ndarray:
        after = np.where(rollout.terminated[-1], 0.0, next_q[-1].max(axis=-1))
        moved = next_q.copy()
        moved[-2] = after[:, None]
        return lambda_returns(config, rollout, moved)

    return call


def trace_through_cuts(lambda_returns: Callable) -> Callable:
    """Let the trace go on where an episode was cut (D3)."""

    def call(config: Any, rollout: Any, next_q: np.ndarray) -> np.ndarray:
        nowhere = np.zeros_like(rollout.truncated)
        return lambda_returns(config, rollout._replace(truncated=nowhere), next_q)

    return call


def other_radam(threshold: float = 5.0, early: bool = False) -> Callable[[ModuleType], None]:
    """Return a change of RAdam (D5).

    Args:
        threshold: length from which the variance is used.
        early: ε is added to √v before the bias correction.
    """

    def radam(weights, grads, rate, eps, count="adam/count"):
        out, steps = dict(weights), weights[count] + np.int32(1)
        longest = 2.0 / (1.0 - BETA2) - 1.0
        length = longest - 2.0 * steps * BETA2**steps / (1.0 - BETA2**steps)
        correction = np.sqrt(1.0 - BETA2**steps)
        for name, g in grads.items():
            mu = BETA1 * weights[f"adam/mu/{name}"] + (1.0 - BETA1) * g
            nu = BETA2 * weights[f"adam/nu/{name}"] + (1.0 - BETA2) * g**2
            direction = mu / (1.0 - BETA1**steps)
            if length >= threshold:
                part = (length - 4.0) * (length - 2.0) * longest
                rectified = np.sqrt(part / ((longest - 4.0) * (longest - 2.0) * length))
                late_eps = eps if not early else eps / correction
                direction = rectified * direction / (np.sqrt(nu) / correction + late_eps)
            out[name] = weights[name] - rate * direction
            out[f"adam/mu/{name}"], out[f"adam/nu/{name}"] = mu, nu
        return {**out, count: steps}

    return replaced("radam", lambda f: radam)


RULES = Rules(
    settings=SETTINGS,
    adam="D5",
    clipping="D5",
    iteration=True,
    calls=8,
    first_terms=("target",),
    rows={"prepare": returns_per_step},
    stages=(
        Stage(function="gradients", terms={"q": "q", "loss": "loss"}, optimizers=("q",)),
    ),
    deviations=(
        Deviation("D2", "step T − 2 is valued by the observation after the rollout",
                  "purejaxql's pqn_gymnax.py and pqn_minatar.py",
                  replaced("lambda_returns", last_value_twice)),
        Deviation("D2", "returns of one step", "", settings={"q_lambda": 0.0}),
        Deviation("D3", "time limits are treated as ends: Q(final_obs) is not used",
                  "purejaxql, CleanRL", settings={"truncation": "terminal"}),
        Deviation("D3", "the trace goes on across the cut of an episode", "",
                  replaced("lambda_returns", trace_through_cuts)),
        Deviation("D4", "the loss has no factor ½", "CleanRL", scaled("gradients", "loss", 2.0)),
        Deviation("D5", "Adam instead of RAdam", "", settings={"optimizer": "adam"}),
        Deviation("D5", "RAdam adds ε before the bias correction", "torch.optim.RAdam",
                  other_radam(early=True)),
        Deviation("D5", "RAdam divides by the variance from ρ > 4 on", "Liu et al. 2020",
                  other_radam(threshold=4.0)),
        Deviation("D6", "the learning rate falls", "purejaxql", settings={"anneal_lr": True}),
        Deviation("D9", "rewards are not scaled", "CleanRL", settings={"reward_scale": 1.0}),
    ),
)  # fmt: skip
"""PQN's terms and known deviations."""
