"""Train with Stable-Baselines3, on Gymnasium's environments."""

from __future__ import annotations

from typing import Any

import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecNormalize

ACTIVATIONS = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}


class Contestant:
    """A model of Stable-Baselines3, or of SBX, which has the same interface."""

    def __init__(self, model: Any, config: Any):
        self.model, self.config = model, config
        model.set_logger(Logger(folder=None, output_formats=[]))  # `learn` makes a folder otherwise

    def train(self, env_steps: int) -> None:
        """Go on learning for so many steps."""
        self.model.learn(env_steps, reset_num_timesteps=False, log_interval=None)

    def counts(self) -> dict[str, int]:
        """Return steps and gradient steps; PPO's counter is of epochs."""
        per_count = getattr(self.config, "num_minibatches", 1)
        updates = per_count * self.model._n_updates
        return {"env_steps": self.model.num_timesteps, "updates": updates}

    def act(self, obs: Any) -> Any:
        """Return greedy actions."""
        return self.model.predict(obs, deterministic=True)[0]

    def weights(self) -> dict[str, Any]:
        """Return the weights of all networks."""
        return self.model.policy.state_dict()

    def close(self) -> None:
        """Close the environments."""
        self.model.get_env().close()


def make(cell: Any, config: Any, seed: int, threads: int) -> Contestant:
    """Make a model for a cell's task, with settings as near to ours as it has them."""
    torch.set_num_threads(threads)
    return Contestant(make_model(stable_baselines3, ACTIVATIONS, cell, config, seed), config)


def make_model(library: Any, activations: Any, cell: Any, config: Any, seed: int) -> Any:
    """Make the model of a library with the interface of Stable-Baselines3."""
    env = make_vec_env(cell.task.partition("/")[2], n_envs=config.num_envs, seed=seed)
    if cell.algorithm == "ppo" and (config.normalize_obs or config.normalize_reward):
        env = VecNormalize(env, norm_obs=config.normalize_obs, norm_reward=config.normalize_reward)
    settings = ppo_settings(config, activations) if cell.algorithm == "ppo" else shared(config)
    if cell.algorithm == "dqn":
        settings |= dqn_settings(config)
    if cell.algorithm == "td3":
        settings |= td3_settings(config, env.action_space.shape[0])
    kind = getattr(library, cell.algorithm.upper())
    return kind("MlpPolicy", env, gamma=config.gamma, seed=seed, device="cpu", **settings)


def ppo_settings(config: Any, activations: Any) -> dict[str, Any]:
    """Return PPO's settings by its names; its value loss is twice ours."""
    return {
        "learning_rate": config.learning_rate,
        "n_steps": config.num_steps,
        "batch_size": config.batch_size // config.num_minibatches,
        "n_epochs": config.num_epochs,
        "gae_lambda": config.gae_lambda,
        "clip_range": config.clip,
        "clip_range_vf": config.clip if config.clip_value else None,
        "ent_coef": config.entropy_coef,
        "vf_coef": config.value_coef / 2,
        "max_grad_norm": config.max_grad_norm,
        "policy_kwargs": {
            "net_arch": list(config.hidden_sizes),
            "activation_fn": activations[config.activation],
        },
    }


def shared(config: Any) -> dict[str, Any]:
    """Return the settings of off-policy algorithms by its names; its networks have ReLUs."""
    return {
        "learning_rate": getattr(config, "actor_lr", None) or config.learning_rate,
        "buffer_size": config.replay_size,
        "learning_starts": config.learning_starts,
        "batch_size": config.batch_size,
        "tau": getattr(config, "tau", 1.0),
        "train_freq": config.num_steps,
        "gradient_steps": config.num_updates,
        "policy_kwargs": {"net_arch": list(config.hidden_sizes)},
    }


def dqn_settings(config: Any) -> dict[str, Any]:
    """Return what only DQN has, by its names."""
    return {
        "target_update_interval": config.target_every,
        "exploration_initial_eps": config.epsilon_start,
        "exploration_final_eps": config.epsilon_end,
    }


def td3_settings(config: Any, actions: int) -> dict[str, Any]:
    """Return what only TD3 has, by its names."""
    noise = config.exploration_noise * np.ones(actions)
    return {
        "action_noise": NormalActionNoise(np.zeros(actions), noise),
        "policy_delay": config.policy_delay,
        "target_policy_noise": config.target_noise,
        "target_noise_clip": config.noise_clip,
    }
