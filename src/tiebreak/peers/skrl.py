"""Train with skrl's PPO and trainer in torch, on Gymnasium's environments."""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium
import torch
from skrl.agents.torch.ppo import PPO, PPO_CFG
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.models.torch import CategoricalMixin, DeterministicMixin, GaussianMixin, Model
from skrl.resources.preprocessors.torch import RunningStandardScaler
from skrl.trainers.torch import SequentialTrainer
from skrl.utils import set_seed

from tiebreak.peers.script import Script

ENDLESS = 2_000_000_000
"""Rounds of a training that goes on until it is ended."""

ACTIVATIONS = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}


class Network(Model):
    """Dense layers, as they are put together in its examples."""

    def __init__(self, env: Any, outputs: int, config: Any):
        super().__init__(
            observation_space=env.observation_space, action_space=env.action_space, device="cpu"
        )
        layers: list[torch.nn.Module] = []
        sizes = (self.num_observations, *config.hidden_sizes)
        for inputs, width in itertools.pairwise(sizes):
            layers += [torch.nn.Linear(inputs, width), ACTIVATIONS[config.activation]()]
        self.net = torch.nn.Sequential(*layers, torch.nn.Linear(sizes[-1], outputs))
        self.log_std = torch.nn.Parameter(torch.full((outputs,), config.log_std_init))

    def compute(self, inputs: Any, role: str) -> tuple[Any, dict[str, Any]]:
        """Return the network's output."""
        return self.net(inputs["observations"]), {"log_std": self.log_std}


class Discrete(CategoricalMixin, Network):
    """Policy over discrete actions."""

    def __init__(self, env: Any, config: Any):
        Network.__init__(self, env, env.action_space.n, config)
        CategoricalMixin.__init__(self)


class Gaussian(GaussianMixin, Network):
    """Policy over a box."""

    def __init__(self, env: Any, config: Any):
        Network.__init__(self, env, env.action_space.shape[0], config)
        GaussianMixin.__init__(self)


class Value(DeterministicMixin, Network):
    """Value."""

    def __init__(self, env: Any, config: Any):
        Network.__init__(self, env, 1, config)
        DeterministicMixin.__init__(self)


class Contestant(Script):
    """A trainer of skrl, which pauses after every round."""

    def __init__(self, agent: Any, env: Any):
        trainer = {"timesteps": ENDLESS, "headless": True, "disable_progressbar": True}
        super().__init__(SequentialTrainer(cfg=trainer, env=env, agents=agent).train)
        self.agent, after = agent, agent.post_interaction

        def end_round(*, timestep: int, timesteps: int) -> None:
            after(timestep=timestep, timesteps=timesteps)
            self.pause((timestep + 1) * env.num_envs)

        agent.post_interaction = end_round

    def weights(self) -> dict[str, Any]:
        """Return the weights of the policy."""
        return self.agent.policy.state_dict()


def make(cell: Any, config: Any, seed: int, threads: int) -> Contestant:
    """Make PPO for a cell's task, with settings as near to ours as it has them."""
    torch.set_num_threads(threads)
    set_seed(seed)
    task, num_envs = cell.task.partition("/")[2], config.num_envs
    if num_envs == 1:
        env = wrap_env(gymnasium.make(task))
    else:
        env = wrap_env(gymnasium.make_vec(task, num_envs, vectorization_mode="sync"))
    settings = PPO_CFG(
        rollouts=config.num_steps, learning_epochs=config.num_epochs,
        mini_batches=config.num_minibatches, discount_factor=config.gamma,
        gae_lambda=config.gae_lambda, learning_rate=config.learning_rate,
        grad_norm_clip=config.max_grad_norm, ratio_clip=config.clip,
        value_clip=config.clip if config.clip_value else 0.0,
        entropy_loss_scale=config.entropy_coef, value_loss_scale=config.value_coef / 2,
        time_limit_bootstrap=config.truncation == "bootstrap",
    )  # fmt: skip
    if config.normalize_obs:
        settings.observation_preprocessor = RunningStandardScaler
        settings.observation_preprocessor_kwargs = {"size": env.observation_space, "device": "cpu"}
    settings.experiment.write_interval = settings.experiment.checkpoint_interval = 0
    policy = Discrete if isinstance(env.action_space, gymnasium.spaces.Discrete) else Gaussian
    agent = PPO(
        models={"policy": policy(env, config), "value": Value(env, config)},
        memory=RandomMemory(memory_size=config.num_steps, num_envs=num_envs, device="cpu"),
        cfg=settings, observation_space=env.observation_space, state_space=env.state_space,
        action_space=env.action_space, device="cpu",
    )  # fmt: skip
    return Contestant(agent, env)
