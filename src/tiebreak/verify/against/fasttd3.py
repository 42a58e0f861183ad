"""FastTD3's terms, and what libraries compute otherwise than our specification says."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from tiebreak.algorithms.fasttd3.data import CRITICS, ActorTerms
from tiebreak.frameworks.numpy import networks
from tiebreak.frameworks.numpy.ops import softmax
from tiebreak.verify.against import td3
from tiebreak.verify.against.deviations import replaced, scaled
from tiebreak.verify.against.rules import Deviation, Rules

SETTINGS: dict[str, Any] = {
    "total_steps": 10_000, "num_envs": 1, "num_rounds": 5, "num_updates": 2, "learning_starts": 10,
    "replay_size": 1_000, "batch_size": 8, "normalize_obs": False, "policy_delay": 2,
    "actor_lr": 2e-3, "critic_lr": 3e-3, "tau": 0.05, "target_noise": 0.3, "num_atoms": 6,
    "v_min": -2.0, "v_max": 3.0, "actor_sizes": (9, 7), "critic_sizes": (11, 8),
}  # fmt: skip


def doubled_projection(project: Callable) -> Callable:
    """Give both neighbours of a value that lies on an inner atom the whole mass (D3)."""

    def call(probs: np.ndarray, values: np.ndarray, low: float, high: float) -> np.ndarray:
        out = project(probs, values, low, high)
        place = (values - low) / (high - low) * (probs.shape[1] - 1)
        whole = (place == np.floor(place)) & (place > 0) & (place < probs.shape[1] - 1)
        rows, columns = np.nonzero(whole)
        np.add.at(out, (rows, place[whole].astype(int) - 1), probs[rows, columns])
        return out

    return call


def value_of_actor(choose: Callable[[np.ndarray], np.ndarray]) -> Callable[[ModuleType], None]:
    """Return a change of the value that the actor climbs: choose(q [2, B]) -> shares [2, B]."""

    def change(oracle: ModuleType) -> None:
        def actor_gradients(spec: Any, config: Any, weights: Any, batch: Any, noise: Any) -> Any:
            del noise
            action, cache = oracle.policy(spec, config, weights, batch.obs)
            atoms, layers = oracle.atoms(config), config.critic_layers
            outputs = [
                oracle.critic(spec, config, weights, name, batch.obs, action) for name in CRITICS
            ]
            probs = np.stack([softmax(logits) for logits, _ in outputs])
            q = probs @ atoms
            shares, d_action = choose(q), np.zeros_like(action)
            for i, (name, (_, q_cache)) in enumerate(zip(CRITICS, outputs, strict=True)):
                slope = probs[i] * (atoms - q[i][:, None])
                d_logits = -shares[i][:, None] * slope / len(action)
                d_action += networks.action_gradient(spec, layers, weights, name, q_cache, d_logits)
            d_out = d_action * (1.0 - action**2)
            grads = networks.backward(spec, config.actor_layers, weights, "actor", cache, d_out)
            return ActorTerms(-(shares * q).sum(axis=0).mean()), grads

        vars(oracle)["actor_gradients"] = actor_gradients

    return change


def decay_kernels_only(decay: Callable) -> Callable:
    """Leave biases out of the weight decay (D7)."""
    return lambda weights, names, share: decay(
        weights, [name for name in names if name.endswith("/kernel")], share
    )


def decay_in_gradient(oracle: ModuleType) -> None:
    """Add the decay to the gradient, as Adam with L2 regularization does (D7)."""

    def optimize(config: Any, weights: Any, grads: Any, rate: float, count: str) -> Any:
        clipped, norm = oracle.clip_by_norm(grads, config.max_grad_norm)
        whole = {name: g + config.weight_decay * weights[name] for name, g in clipped.items()}
        return oracle.adam(weights, whole, rate, config.adam_eps, count), norm

    vars(oracle)["optimize"] = optimize


def targets_with_actor(oracle: ModuleType) -> None:
    """Let the critics' targets move with the actor, as in TD3 (D6)."""
    polyak = vars(oracle)["polyak"]

    def update(spec: Any, config: Any, weights: Any, batch: Any, noise: Any) -> Any:
        return td3.update(oracle, spec, config, weights, batch, noise)

    def polyak_of_critics(weights: Any, names: Any, tau: float) -> Any:
        return polyak(weights, [n for n in names if f"target/{n}" in weights], tau)

    vars(oracle).update(order=td3.Order(), update=update, polyak=polyak_of_critics)


RULES = Rules(
    settings=SETTINGS,
    adam="D7",
    clipping="D7",
    stages=td3.STAGES,
    target_after="critic",
    deviations=(
        Deviation("D3", "on an inner atom both neighbours get the whole mass",
                  "the authors' code until October 2025",
                  replaced("project_distribution", doubled_projection)),
        Deviation("D4", "the critics' loss is the mean of both", "",
                  scaled("critic_gradients", "loss", 0.5)),
        Deviation("D5", "the actor climbs the mean of both critics",
                  "the authors' for hands (use_cdq off)",
                  value_of_actor(lambda q: np.full_like(q, 0.5))),
        Deviation("D5", "the actor climbs the first critic alone", "TD3",
                  value_of_actor(lambda q: np.stack([np.ones_like(q[0]), np.zeros_like(q[0])]))),
        Deviation("D6", "targets move with the actor", "TD3", targets_with_actor),
        Deviation("D7", "kernels decay, biases do not", "",
                  replaced("decay", decay_kernels_only)),
        Deviation("D7", "the decay is part of the gradient (L2)", "Adam with weight_decay",
                  decay_in_gradient),
        Deviation("D7", "no weight decay", "TD3", settings={"weight_decay": 0.0}),
        Deviation("D7", "a weight decay of 0.01", "AdamW's default in torch",
                  settings={"weight_decay": 0.01}),
    ),
)  # fmt: skip
"""FastTD3's terms and known deviations."""
