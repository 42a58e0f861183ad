"""DQN's terms, and what libraries compute otherwise than our specification says."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from tiebreak.algorithms.dqn.data import LossTerms
from tiebreak.frameworks.numpy import networks
from tiebreak.verify.against.deviations import scaled
from tiebreak.verify.against.rules import Deviation, Rules, Stage

SETTINGS: dict[str, Any] = {
    "total_steps": 1_000, "num_steps": 1, "num_rounds": 5, "learning_starts": 5,
    "replay_size": 1_000, "batch_size": 8, "learning_rate": 3e-3, "target_every": 3,
    "hidden_sizes": (9, 7),
}  # fmt: skip


def huber(oracle: ModuleType) -> None:
    """Let the loss be quadratic up to an error of 1 and linear beyond (D2)."""

    def gradients(spec: Any, config: Any, weights: Any, batch: Any, noise: Any) -> Any:
        del noise
        next_q, _ = networks.forward(spec, config.layers, weights, "target/q", batch.next_obs)
        selector = next_q
        if config.double_q:
            selector, _ = networks.forward(spec, config.layers, weights, "q", batch.next_obs)
        rows = np.arange(len(next_q))
        target = batch.reward + batch.discount * next_q[rows, selector.argmax(axis=-1)]
        q, cache = networks.forward(spec, config.layers, weights, "q", batch.obs)
        error = q[rows, batch.action] - target
        size = np.abs(error)
        d_q = np.zeros_like(q)
        d_q[rows, batch.action] = np.clip(error, -1.0, 1.0) / len(rows)
        grads = networks.backward(spec, config.layers, weights, "q", cache, d_q)
        loss = np.where(size <= 1.0, 0.5 * error**2, size - 0.5).mean()
        mean_q = q[rows, batch.action].mean()
        return LossTerms(loss=loss, q=mean_q, target=target.mean()), grads

    vars(oracle)["gradients"] = gradients


def copy_before(oracle: ModuleType) -> None:
    """Copy the network into its target before the update that is due, not after it (D4)."""
    update = vars(oracle)["update"]

    def call(spec: Any, config: Any, weights: Any, batch: Any, noise: Any) -> Any:
        names = oracle.trained(weights)
        if weights["adam/count"] > 0 and weights["adam/count"] % config.target_period == 0:
            weights = {**weights, **{f"target/{name}": weights[name] for name in names}}
        kept = {f"target/{name}": weights[f"target/{name}"] for name in names}
        after, metrics = update(spec, config, weights, batch, noise)
        return {**after, **kept}, metrics

    vars(oracle)["update"] = call


def copy_due_first(oracle: ModuleType) -> None:
    """Copy after the updates 1, 1 + period, …: a count that begins at 0 (D4)."""
    update = vars(oracle)["update"]

    def call(spec: Any, config: Any, weights: Any, batch: Any, noise: Any) -> Any:
        names = oracle.trained(weights)
        due = weights["adam/count"] % config.target_period == 0
        kept = {f"target/{name}": weights[f"target/{name}"] for name in names}
        after, metrics = update(spec, config, weights, batch, noise)
        copies = {f"target/{name}": after[name] for name in names} if due else kept
        return {**after, **copies}, metrics

    vars(oracle)["update"] = call


RULES = Rules(
    settings=SETTINGS,
    adam="D5",
    clipping="D5",
    stages=(
        Stage(
            function="gradients",
            terms={"target": "target", "q": "q", "loss": "loss"},
            optimizers=("q",),
        ),
    ),
    deviations=(
        Deviation("D2", "Huber loss", "SB3, Dopamine, the original's clipped error", huber),
        Deviation("D2", "the loss has a factor ½", "rlax", scaled("gradients", "loss", 0.5)),
        Deviation("D3", "double Q-learning", "Acme", settings={"double_q": True}),
        Deviation("D3", "no double Q-learning", "", settings={"double_q": False}),
        Deviation("D4", "the target is copied before the update that is due", "", copy_before),
        Deviation("D4", "the target is copied after updates 1, 1 + period, …", "", copy_due_first),
        Deviation("D5", "gradients are clipped to a norm of 10", "SB3",
                  settings={"max_grad_norm": 10.0}),
    ),
)  # fmt: skip
"""DQN's terms and known deviations."""
