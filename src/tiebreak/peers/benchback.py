"""Train with benchback-rl's PPO in Linen from a checkout, on gymnax's environments."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

import gymnax
import jax

from tiebreak.peers.script import stand_in

sys.path.insert(0, os.path.join(sys.path[0], "src"))
if importlib.util.find_spec("wandb") is None:  # it is imported, and asked whether it runs
    stand_in("wandb", run=None)

from benchback_rl.rl_common import PPOConfig
from benchback_rl.rl_linen import PPO, DefaultActorCritic

ITERATIONS = 1_000_000
"""Iterations over which its learning rate falls to 0: in a race it is constant."""


class Contestant:
    """A PPO of benchback-rl; rollout, advantages and update are a program each."""

    def __init__(self, ppo: Any, iteration_steps: int):
        self.ppo, self.iteration_steps, self.iterations = ppo, iteration_steps, 0
        ppo.reset()

    def train(self, env_steps: int) -> None:
        """Train for whole iterations; each ends by reading its metrics."""
        for _ in range(env_steps // self.iteration_steps):
            self.ppo.train_step()
            self.iterations += 1
        jax.block_until_ready(self.ppo._train_state)

    def counts(self) -> dict[str, int]:
        """Return the steps of all iterations, and the updates that it has counted."""
        updates = int(self.ppo._train_state.step)
        return {"env_steps": self.iterations * self.iteration_steps, "updates": updates}

    def weights(self) -> dict[str, Any]:
        """Return the weights of policy and value."""
        return self.ppo._train_state.model_params

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


def make(cell: Any, config: Any, seed: int, threads: int) -> Contestant:
    """Make PPO for a cell's task, with settings as near to ours as it has them."""
    env, params = gymnax.make(cell.task.partition("/")[2])
    model = DefaultActorCritic(env.action_space(params).n, tuple(config.hidden_sizes))
    key = jax.random.PRNGKey(seed)
    weights = model.init(key, jax.numpy.zeros((1, *env.observation_space(params).shape)))
    settings = PPOConfig(
        framework="linen", env_name=cell.task, compile="jax.jit", seed=seed,
        num_iterations=ITERATIONS, num_envs=config.num_envs, num_steps=config.num_steps,
        num_minibatches=config.num_minibatches, update_epochs=config.num_epochs,
        hidden_sizes=tuple(config.hidden_sizes), learning_rate=config.learning_rate,
        gamma=config.gamma, gae_lambda=config.gae_lambda, clip_coef=config.clip,
        clip_vloss=config.clip_value, ent_coef=config.entropy_coef, vf_coef=config.value_coef,
        max_grad_norm=config.max_grad_norm, adam_eps=config.adam_eps,
    )  # fmt: skip
    return Contestant(PPO(env, params, model, weights, settings), config.iteration_steps)
