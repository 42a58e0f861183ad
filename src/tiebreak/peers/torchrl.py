"""Train with TorchRL's collector, losses and buffer, as its PPO example does, on Gymnasium."""

from __future__ import annotations

import functools
from typing import Any

import torch
from tensordict.nn import AddStateIndependentNormalScale, TensorDictModule
from torch.optim import Adam
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.data.replay_buffers.samplers import SamplerWithoutReplacement
from torchrl.envs import ClipTransform, DoubleToFloat, GymEnv, SerialEnv, TransformedEnv, VecNorm
from torchrl.modules import MLP, IndependentNormal, ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

KEYS = ["observation"]
ACTIVATIONS = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}


class Contestant:
    """PPO put together from TorchRL's parts."""

    def __init__(self, env: Any, config: Any):
        self.config, frames = config, config.batch_size
        self.actor, critic = make_networks(env, config)
        self.collector = Collector(env, self.actor, frames_per_batch=frames, total_frames=-1)
        self.rollouts, sampler = iter(self.collector), SamplerWithoutReplacement()
        self.buffer = TensorDictReplayBuffer(
            storage=LazyTensorStorage(frames), sampler=sampler,
            batch_size=frames // config.num_minibatches,
        )  # fmt: skip
        self.advantage = GAE(
            gamma=config.gamma, lmbda=config.gae_lambda, value_network=critic, average_gae=False
        )
        self.loss = ClipPPOLoss(
            self.actor, critic, clip_epsilon=config.clip, clip_value=config.clip_value,
            entropy_coeff=config.entropy_coef, critic_coeff=config.value_coef / 2,
            loss_critic_type="l2", normalize_advantage=config.normalize_advantage,
        )  # fmt: skip
        self.parameters = [*self.actor.parameters(), *critic.parameters()]
        self.optimizer = Adam(self.parameters, config.learning_rate, eps=config.adam_eps)
        self.done = {"env_steps": 0, "updates": 0}

    def train(self, env_steps: int) -> None:
        """Collect and learn for whole iterations."""
        for _ in range(env_steps // self.config.iteration_steps):
            data = next(self.rollouts)
            self.done["env_steps"] += data.numel()
            with torch.no_grad():
                data = self.advantage(data)
            for _ in range(self.config.num_epochs):
                self.buffer.extend(data.reshape(-1))
                for batch in self.buffer:
                    self._update(batch)
            self.collector.update_policy_weights_()

    def _update(self, batch: Any) -> None:
        """Take one gradient step."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(batch)
        (loss["loss_objective"] + loss["loss_entropy"] + loss["loss_critic"]).backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm)
        self.optimizer.step()
        self.done["updates"] += 1

    def counts(self) -> dict[str, int]:
        """Return steps and gradient steps."""
        return dict(self.done)

    def weights(self) -> dict[str, Any]:
        """Return the weights of the policy."""
        return self.actor.state_dict()

    def close(self) -> None:
        """Close collector and environments."""
        self.collector.shutdown()


def make(cell: Any, config: Any, seed: int, threads: int) -> Contestant:
    """Make PPO for a cell's task, with settings as near to ours as it has them."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    env = make_environment(cell.task.partition("/")[2], config)
    env.set_seed(seed)
    return Contestant(env, config)


def make_environment(task: str, config: Any) -> Any:
    """Make the environments, normalized as those of its example if ours are."""
    one = functools.partial(GymEnv, task, categorical_action_encoding=True)
    env = TransformedEnv(one() if config.num_envs == 1 else SerialEnv(config.num_envs, one))
    if config.normalize_obs:
        env.append_transform(VecNorm(in_keys=KEYS, decay=0.99999, eps=1e-2))
        env.append_transform(ClipTransform(in_keys=KEYS, low=-10, high=10))
    if env.observation_spec["observation"].dtype == torch.float64:
        env.append_transform(DoubleToFloat(in_keys=KEYS))
    return env


def make_networks(env: Any, config: Any) -> tuple[Any, Any]:
    """Return actor and critic for an environment's spaces."""
    inputs, spec = env.observation_spec["observation"].shape[-1], env.action_spec_unbatched
    sizes = {"num_cells": list(config.hidden_sizes)}
    sizes |= {"in_features": inputs, "activation_class": ACTIVATIONS[config.activation]}
    if hasattr(spec.space, "n"):
        policy, outputs = MLP(out_features=spec.space.n, **sizes), ["logits"]
        distribution: Any = torch.distributions.Categorical
    else:
        scale = AddStateIndependentNormalScale(spec.shape[-1])
        policy = torch.nn.Sequential(MLP(out_features=spec.shape[-1], **sizes), scale)
        outputs, distribution = ["loc", "scale"], IndependentNormal
    actor = ProbabilisticActor(
        TensorDictModule(policy, in_keys=KEYS, out_keys=outputs), in_keys=outputs, spec=spec,
        distribution_class=distribution, return_log_prob=True,
    )  # fmt: skip
    return actor, ValueOperator(MLP(out_features=1, **sizes), in_keys=KEYS)
