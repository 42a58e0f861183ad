"""Train with CleanRL's scripts from a checkout, on Gymnasium's environments."""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
from collections.abc import Mapping
from typing import Any

import cleanrl
import gymnasium
import torch

from tiebreak.peers.script import Script, stand_in

ENDLESS = 2_000_000_000
"""Steps of a training that goes on until it is ended."""

NETWORKS = ("agent", "q_network", "actor", "qf1", "qf2")
"""Variables of the scripts that hold networks."""


class Contestant(Script):
    """A script of CleanRL; its SummaryWriter, which writes nothing, is where it pauses."""

    taken = 0
    """Steps taken when it counts none."""

    def __init__(self, file: str, arguments: list[str]):
        path = os.path.join(next(iter(cleanrl.__path__)), file)
        super().__init__(lambda: runpy.run_path(path, run_name="__main__"))
        sys.argv = [path, *arguments]
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, it prints as long as the process lives
        stand_in("torch.utils.tensorboard", SummaryWriter=lambda *_: self)
        self._variables: Mapping[str, Any] = {}

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Pause where an iteration ends, which is when it logs its speed."""
        if name == "charts/SPS":
            self._variables = sys._getframe(1).f_globals
            self.pause(step + self.taken)

    def add_text(self, *_: object) -> None:
        """Write nothing."""

    def act(self, obs: Any) -> Any:
        """Return greedy actions, of SAC and where actions are discrete."""
        known, batch = self._variables, torch.as_tensor(obs)
        with torch.no_grad():
            if "actor" in known:
                return known["actor"].get_action(batch)[2].numpy()
            network = known["agent"].actor if "agent" in known else known["q_network"]
            return network(batch).argmax(1).numpy()

    def weights(self) -> dict[str, Any]:
        """Return the weights of the networks, once there are some."""
        known = [name for name in NETWORKS if name in self._variables]
        return {name: self._variables[name].state_dict() for name in known}


class OffPolicy(Contestant):
    """An off-policy script, which counts from the first step on, and logs every hundredth."""

    taken = 1
    steps_per_call = 100


FILES = {
    "dqn": "dqn.py",
    "td3": "td3_continuous_action.py",
    "sac": "sac_continuous_action.py",
}
PPO = {
    "learning-rate": "learning_rate", "num-steps": "num_steps",
    "num-minibatches": "num_minibatches", "update-epochs": "num_epochs",
    "gae-lambda": "gae_lambda", "clip-coef": "clip", "ent-coef": "entropy_coef",
    "vf-coef": "value_coef", "max-grad-norm": "max_grad_norm",
}  # fmt: skip
OFF_POLICY = {
    "buffer-size": "replay_size", "learning-starts": "learning_starts", "batch-size": "batch_size",
}  # fmt: skip
DQN = {
    "learning-rate": "learning_rate", "target-network-frequency": "target_every",
    "start-e": "epsilon_start", "end-e": "epsilon_end",
}  # fmt: skip
TD3 = {
    "tau": "tau", "learning-rate": "actor_lr", "policy-frequency": "policy_delay",
    "exploration-noise": "exploration_noise", "policy-noise": "target_noise",
    "noise-clip": "noise_clip",
}  # fmt: skip
SAC = {"tau": "tau", "policy-lr": "actor_lr", "q-lr": "critic_lr"}
"""Its options -> our settings."""


def make(cell: Any, config: Any, seed: int, threads: int) -> Contestant:
    """Make a training for a cell's task, with settings as near to ours as it has them."""
    torch.set_num_threads(threads)
    task = cell.task.partition("/")[2]
    settings: dict[str, Any] = {
        "env-id": task, "seed": seed, "num-envs": config.num_envs, "gamma": config.gamma,
        "total-timesteps": ENDLESS,
    }  # fmt: skip
    names = {"ppo": PPO, "dqn": OFF_POLICY | DQN, "td3": OFF_POLICY | TD3, "sac": OFF_POLICY | SAC}
    settings |= {name: getattr(config, ours) for name, ours in names[cell.algorithm].items()}
    arguments = ["--no-cuda", *(f"--{name}={value}" for name, value in settings.items())]
    if cell.algorithm == "dqn":
        arguments.append(f"--train-frequency={config.round_steps // config.num_updates}")
    if cell.algorithm != "ppo":
        return OffPolicy(FILES[cell.algorithm], arguments)
    arguments += ["--no-anneal-lr", "--clip-vloss" if config.clip_value else "--no-clip-vloss"]
    with contextlib.closing(gymnasium.make(task)) as env:
        discrete = isinstance(env.action_space, gymnasium.spaces.Discrete)
    return Contestant("ppo.py" if discrete else "ppo_continuous_action.py", arguments)
