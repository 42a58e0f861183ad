"""TD3's terms, and what libraries compute otherwise than our specification says."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from tiebreak.algorithms.td3.data import CRITICS, ActorTerms
from tiebreak.frameworks.numpy import networks
from tiebreak.verify.against.deviations import reordered, scaled
from tiebreak.verify.against.rules import Deviation, Rules, Stage

SETTINGS: dict[str, Any] = {
    "total_steps": 1_000, "num_rounds": 5, "num_steps": 2, "num_updates": 2, "learning_starts": 10,
    "replay_size": 1_000, "batch_size": 8, "policy_delay": 2, "actor_lr": 2e-3, "critic_lr": 3e-3,
    "tau": 0.05, "target_noise": 0.3, "hidden_sizes": (9, 7),
}  # fmt: skip


def target_actions(smooth: Callable) -> Callable[[ModuleType], None]:
    """Return a change of the actions in the target: smooth(config, greedy, noise) (D2)."""

    def change(oracle: ModuleType) -> None:
        def targets(spec: Any, config: Any, weights: Any, batch: Any, noise: Any) -> np.ndarray:
            greedy, _ = oracle.policy(spec, config, weights, "target/actor", batch.next_obs)
            action = smooth(config, greedy, noise.target)
            values = [
                oracle.critic(spec, config, weights, f"target/{name}", batch.next_obs, action)[0]
                for name in CRITICS
            ]
            return batch.reward + batch.discount * np.minimum(*values)

        vars(oracle)["targets"] = targets

    return change


def without_last_clip(config: Any, greedy: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return actions whose sum with the noise may leave [-1, 1]."""
    return greedy + np.clip(config.target_noise * noise, -config.noise_clip, config.noise_clip)


def without_noise(config: Any, greedy: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return the greedy actions."""
    del config, noise
    return greedy


def climb_smaller(oracle: ModuleType) -> None:
    """Let the actor climb the smaller of both critics (D4)."""

    def actor_gradients(spec: Any, config: Any, weights: Any, batch: Any, noise: Any) -> Any:
        del noise
        action, cache = oracle.policy(spec, config, weights, "actor", batch.obs)
        outputs = [
            oracle.critic(spec, config, weights, name, batch.obs, action) for name in CRITICS
        ]
        q = np.stack([value for value, _ in outputs])
        d_action = np.zeros_like(action)
        for name, (value, q_cache) in zip(CRITICS, outputs, strict=True):
            d_q = np.where(value == q.min(axis=0), -1.0 / len(value), 0.0)[:, None]
            d_action += networks.action_gradient(spec, config.layers, weights, name, q_cache, d_q)
        d_out = d_action * (1.0 - action**2)
        grads = networks.backward(spec, config.layers, weights, "actor", cache, d_out)
        return ActorTerms(-q.min(axis=0).mean()), grads

    vars(oracle)["actor_gradients"] = actor_gradients


class Order(NamedTuple):
    """When the parts of a group of updates are computed (D5)."""

    actor_at: int = -1
    """Update of the group with which the actor steps; −1: the last."""
    actor_first: bool = False
    """It steps before the critics of that update."""
    always: tuple[str, ...] = ()
    """Networks whose targets move at every update; the others move with the actor."""


def in_order(**changes: Any) -> Callable[[ModuleType], None]:
    """Return a change of the order of an update; changes add up."""
    return reordered(Order(), update, changes)


def update(
    oracle: ModuleType, spec: Any, config: Any, weights: Any, batch: Any, noise: Any
) -> tuple[Any, None]:
    """Run a group of `policy_delay` updates in the order of this copy of the oracle."""
    order = oracle.order
    due = order.actor_at % config.policy_delay
    for u in range(config.policy_delay):
        if u:
            oracle.next_update(weights)
        row = type(batch)(*(x[u] for x in batch)), type(noise)(*(x[u] for x in noise))
        if u == due and order.actor_first:
            weights = _actor_step(oracle, spec, config, weights, row)
        _, grads = oracle.critic_gradients(spec, config, weights, *row)
        weights, _ = oracle.optimize(config, weights, grads, config.critic_lr, "adam/count")
        if u == due and not order.actor_first:
            weights = _actor_step(oracle, spec, config, weights, row)
        moving = [
            name
            for name in oracle.trained(weights)
            if u == due or name.partition("/")[0] in order.always
        ]
        weights = oracle.polyak(weights, moving, config.tau)
    return weights, None


def _actor_step(oracle: ModuleType, spec: Any, config: Any, weights: Any, row: Any) -> Any:
    _, grads = oracle.actor_gradients(spec, config, weights, *row)
    return oracle.optimize(config, weights, grads, config.actor_lr, "adam/actor_count")[0]


STAGES = (
    Stage(
        function="critic_gradients",
        terms={"target": "target", "q1": "q1", "q2": "q2", "loss": "critic_loss"},
        optimizers=("critic",),
    ),
    Stage(function="actor_gradients", terms={"loss": "actor_loss"}, optimizers=("actor",)),
)
RULES = Rules(
    settings=SETTINGS,
    adam="D6",
    clipping="D6",
    stages=STAGES,
    rows={"targets": lambda arguments, out: {"target": out}},
    deviations=(
        Deviation(
            "D2", "the smoothed action is not clipped to [-1, 1]", "",
            target_actions(without_last_clip),
        ),
        Deviation("D2", "no smoothing of the target's action", "DDPG",
                  target_actions(without_noise)),
        Deviation("D3", "the critics' loss has a factor ½", "Acme, the mean of both critics",
                  scaled("critic_gradients", "loss", 0.5)),
        Deviation("D4", "the actor climbs the smaller of both critics", "SBX", climb_smaller),
        Deviation("D5", "all targets move at every update", "SBX",
                  in_order(always=("actor", *CRITICS))),
        Deviation("D5", "the critics' targets move at every update", "",
                  in_order(always=CRITICS)),
        Deviation("D5", "the actor steps with the first update of each group", "",
                  in_order(actor_at=0)),
        Deviation("D5", "the actor steps before the critics", "", in_order(actor_first=True)),
    ),
)  # fmt: skip
"""TD3's terms and known deviations."""
