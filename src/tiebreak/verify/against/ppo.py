"""PPO's terms, and what libraries compute otherwise than our specification says.

An update is a whole iteration: advantages, then all epochs and minibatches, of which the problem
has one. `settings = {"num_epochs": 2, "num_minibatches": 2}` compares more of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

from tiebreak.verify.against.deviations import replaced
from tiebreak.verify.against.rules import Deviation, Rules, Stage

SETTINGS: dict[str, Any] = {
    "total_steps": 1_000, "num_envs": 3, "num_steps": 8, "num_minibatches": 1, "num_epochs": 1,
    "learning_rate": 3e-3, "anneal_lr": False, "gamma": 0.97, "gae_lambda": 0.9,
    "entropy_coef": 0.02, "hidden_sizes": (9, 7),
}  # fmt: skip


def advantages_per_step(arguments: tuple, out: Any) -> dict[str, np.ndarray]:
    """Return the terms of `prepare` for each step [T, N]."""
    shape = np.shape(arguments[-1].reward)
    _, rows = out
    return {"advantage": rows.advantage.reshape(shape), "target": rows.target.reshape(shape)}


def normalized_by(scale: Callable[[np.ndarray], np.ndarray]) -> Callable[[Callable], Callable]:
    """Return a wrapper of `policy_term` that normalizes advantages by another function (D5)."""

    def make(policy_term: Callable) -> Callable:
        def call(config: Any, log_prob: np.ndarray, batch: Any) -> Any:
            if config.normalize_advantage:
                batch = batch._replace(advantage=scale(batch.advantage))
            return policy_term(replace(config, normalize_advantage=False), log_prob, batch)

        return call

    return make


def doubled_value(value_term: Callable) -> Callable:
    """Leave the factor ½ out of the value loss (D6)."""

    def call(*arguments: Any) -> Any:
        loss, slope = value_term(*arguments)
        return 2.0 * loss, 2.0 * slope

    return call


def normalize_rollout(oracle: ModuleType) -> None:
    """Normalize the advantages of the whole rollout, once (D5)."""
    prepare, policy_term = vars(oracle)["prepare"], vars(oracle)["policy_term"]

    def prepare_normalized(spec: Any, config: Any, weights: Any, rollout: Any) -> Any:
        changed, rows = prepare(spec, config, weights, rollout)
        advantage = (rows.advantage - rows.advantage.mean()) / (rows.advantage.std() + 1e-8)
        return changed, rows._replace(advantage=advantage)

    vars(oracle)["prepare"] = prepare_normalized
    vars(oracle)["policy_term"] = normalized_by(lambda a: a)(policy_term)


def trace_through_cuts(advantages: Callable) -> Callable:
    """Let the trace of advantages go on where an episode was cut (D4)."""
    del advantages

    def call(config: Any, rollout: Any, reward: np.ndarray, next_value: np.ndarray) -> np.ndarray:
        delta = reward + config.gamma * ~rollout.terminated * next_value - rollout.value
        out, following = np.zeros_like(delta), 0.0
        for t in reversed(range(len(delta))):
            share = config.gamma * config.gae_lambda * ~rollout.terminated[t]
            following = delta[t] + share * following
            out[t] = following
        return out

    return call


RULES = Rules(
    settings=SETTINGS,
    adam="D7",
    clipping="D8",
    iteration=True,
    calls=3,
    first_terms=("advantage", "target"),
    rows={"prepare": advantages_per_step},
    stages=(
        Stage(
            function="gradients",
            terms={
                name: name
                for name in (
                    "approx_kl", "clip_fraction", "policy_loss", "value_loss", "entropy", "loss",
                )
            },
            optimizers=("actor_critic",),
        ),
    ),
    deviations=(
        Deviation("D4", "time limits are treated as ends: V(final_obs) is not used",
                  "CleanRL, PureJaxRL, rejax, benchback-rl", settings={"truncation": "terminal"}),
        Deviation("D4", "advantages flow across the cut of an episode", "",
                  replaced("advantages", trace_through_cuts)),
        Deviation("D5", "advantages are divided by a standard deviation with ddof 1",
                  "CleanRL and SB3 in torch",
                  replaced("policy_term", normalized_by(
                      lambda a: (a - a.mean()) / (a.std(ddof=1) + 1e-8)))),
        Deviation("D5", "advantages are not normalized", "",
                  settings={"normalize_advantage": False}),
        Deviation("D5", "advantages are normalized over the whole rollout", "",
                  normalize_rollout),
        Deviation("D6", "the value loss has no factor ½", "SB3, Baselines' variants",
                  replaced("value_term", doubled_value)),
        Deviation("D6", "the value's change is not clipped", "SB3",
                  settings={"clip_value": False}),
        Deviation("D9", "the learning rate falls", "CleanRL", settings={"anneal_lr": True}),
    ),
)  # fmt: skip
"""PPO's terms and known deviations."""
