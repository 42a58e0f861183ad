"""MPO's terms, and what libraries compute otherwise than our specification says."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from tiebreak.frameworks.numpy import networks
from tiebreak.verify.against.deviations import replaced
from tiebreak.verify.against.rules import Deviation, Rules, Stage

SETTINGS: dict[str, Any] = {
    "total_steps": 1_000, "num_rounds": 5, "learning_starts": 5, "replay_size": 1_000,
    "batch_size": 8, "n_step": 1, "learning_rate": 2e-3, "num_samples": 5,
    "init_log_temperature": 0.5, "init_log_alpha_mean": 1.0, "init_log_alpha_std": 2.0,
    "epsilon_std": 0.02, "target_period": 3, "num_critics": 2, "hidden_sizes": (9, 7),
    "critic_sizes": (11, 8, 6),
}  # fmt: skip


def whole_squares(critic_gradients: Callable) -> Callable:
    """Leave the factor ½ out of the critics' loss (D3)."""

    def call(*arguments: Any) -> Any:
        loss, q, grads = critic_gradients(*arguments)
        return 2.0 * loss, q, {name: 2.0 * grad for name, grad in grads.items()}

    return call


def first_critic(oracle: ModuleType) -> None:
    """Value samples by the first critic alone (D2)."""

    def sample_values(spec: Any, config: Any, weights: Any, next_obs: Any, action: Any) -> Any:
        rows = [np.concatenate([next_obs, a], axis=-1) for a in np.clip(action, -1.0, 1.0)]
        layers, name = config.critic_layers, "target/critic1"
        values = [networks.forward(spec, layers, weights, name, row)[0][:, 0] for row in rows]
        return np.stack(values)

    vars(oracle)["sample_values"] = sample_values


RULES = Rules(
    settings=SETTINGS,
    adam="D9",
    clipping="D9",
    stages=(
        Stage(
            function="gradients",
            terms={
                name: name
                for name in (
                    "target", "q", "critic_loss", "temperature", "kl_q", "kl_mean", "kl_std",
                    "policy_loss", "dual_loss", "loss",
                )
            },
            optimizers=("critic", "actor", "dual"),
        ),
    ),
    deviations=(
        Deviation("D2", "samples are valued by the first critic alone", "jax-rl", first_critic),
        Deviation("D3", "the critics' loss has no factor ½", "jax-rl",
                  replaced("critic_gradients", whole_squares)),
    ),
)  # fmt: skip
"""MPO's terms and known deviations."""
