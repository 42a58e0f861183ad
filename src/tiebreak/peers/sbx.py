"""Train with SBX, Stable-Baselines3 in JAX, on Gymnasium's environments."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import sbx

from tiebreak.peers import sb3

ACTIVATIONS = {"tanh": nn.tanh, "relu": nn.relu}


class Contestant(sb3.Contestant):
    """A model of SBX; its updates are counted by the state of its optimizer."""

    def counts(self) -> dict[str, int]:
        """Return steps and gradient steps."""
        policy = self.model.policy
        learner = policy.vf_state if hasattr(policy, "vf_state") else policy.qf_state
        return {"env_steps": self.model.num_timesteps, "updates": int(learner.step)}

    def weights(self) -> dict[str, Any]:
        """Return the weights of the policy."""
        return self.model.policy.actor_state.params


def make(cell: Any, config: Any, seed: int, threads: int) -> Contestant:
    """Make a model for a cell's task, with settings as near to ours as it has them."""
    return Contestant(sb3.make_model(sbx, ACTIVATIONS, cell, config, seed), config)
