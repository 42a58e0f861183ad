"""Train with Tianshou's collector and PPO, as its trainer does, on Gymnasium's environments."""

from __future__ import annotations

import functools
from typing import Any

import gymnasium
import torch
from tianshou.algorithm import PPO
from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy, ProbabilisticActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, CollectStats, VectorReplayBuffer
from tianshou.env import DummyVectorEnv, VectorEnvNormObs
from tianshou.utils.net.common import Net
from tianshou.utils.net.continuous import ContinuousActorProbabilistic, ContinuousCritic
from tianshou.utils.net.discrete import DiscreteActor, DiscreteCritic
from tianshou.utils.torch_utils import policy_within_training_step
from torch.distributions import Categorical, Independent, Normal

ACTIVATIONS = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}


class Contestant:
    """PPO of Tianshou, which collects and updates in turn."""

    def __init__(self, algorithm: Any, envs: Any, config: Any):
        self.algorithm, self.envs, self.config = algorithm, envs, config
        buffer = VectorReplayBuffer(config.batch_size, config.num_envs)
        self.collector = Collector[CollectStats](algorithm, envs, buffer, exploration_noise=True)
        self.collector.reset()
        self.done = {"env_steps": 0, "updates": 0}

    def train(self, env_steps: int) -> None:
        """Collect and learn for whole iterations."""
        config = self.config
        for _ in range(env_steps // config.iteration_steps):
            with policy_within_training_step(self.algorithm.policy):
                collected = self.collector.collect(n_step=config.iteration_steps)
                learnt = self.algorithm.update(
                    self.collector.buffer,
                    batch_size=config.batch_size // config.num_minibatches,
                    repeat=config.num_epochs,
                )
            self.collector.reset_buffer(keep_statistics=True)
            self.done["env_steps"] += collected.n_collected_steps
            self.done["updates"] += learnt.gradient_steps

    def counts(self) -> dict[str, int]:
        """Return steps and gradient steps."""
        return dict(self.done)

    def weights(self) -> dict[str, Any]:
        """Return the weights of the policy."""
        return self.algorithm.policy.state_dict()

    def close(self) -> None:
        """Close the environments."""
        self.envs.close()


def make(cell: Any, config: Any, seed: int, threads: int) -> Contestant:
    """Make PPO for a cell's task, with settings as near to ours as it has them."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    make_one = functools.partial(gymnasium.make, cell.task.partition("/")[2])
    envs: Any = DummyVectorEnv([make_one] * config.num_envs)
    envs.seed(seed)
    policy, critic = make_networks(make_one(), config)
    algorithm: Any = PPO(
        policy=policy, critic=critic,
        optim=AdamOptimizerFactory(lr=config.learning_rate, eps=config.adam_eps),
        eps_clip=config.clip, value_clip=config.clip_value, vf_coef=config.value_coef / 2,
        advantage_normalization=config.normalize_advantage, ent_coef=config.entropy_coef,
        max_grad_norm=config.max_grad_norm, gae_lambda=config.gae_lambda, gamma=config.gamma,
        return_scaling=config.normalize_reward,
    )  # fmt: skip
    return Contestant(algorithm, VectorEnvNormObs(envs) if config.normalize_obs else envs, config)


def make_networks(env: Any, config: Any) -> tuple[Any, Any]:
    """Return policy and critic for an environment's spaces."""

    def net() -> Any:
        return Net(
            state_shape=env.observation_space.shape, hidden_sizes=list(config.hidden_sizes),
            activation=ACTIVATIONS[config.activation],
        )  # fmt: skip

    space = env.action_space
    if isinstance(space, gymnasium.spaces.Discrete):
        discrete = DiscreteActor(preprocess_net=net(), action_shape=space.n)
        policy: Any = DiscreteActorPolicy(actor=discrete, dist_fn=Categorical, action_space=space)
        return policy, DiscreteCritic(preprocess_net=net())
    actor = ContinuousActorProbabilistic(
        preprocess_net=net(), action_shape=space.shape, unbounded=True
    )
    policy = ProbabilisticActorPolicy(
        actor=actor, dist_fn=lambda both: Independent(Normal(*both), 1), action_space=space
    )
    return policy, ContinuousCritic(preprocess_net=net())
