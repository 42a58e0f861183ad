"""Train with CleanRL's scripts from a checkout, on Gymnasium's environments."""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
import types
from collections.abc import Mapping
from typing import Any

import cleanrl
import gymnasium
import torch

from tiebreak.peers.script import Script

ENDLESS = 2_000_000_000
"""Steps of a training that goes on until it is ended."""

NETWORKS = ("agent", "actor", "qf1", "qf2")
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
        writer = types.ModuleType("torch.utils.tensorboard")
        writer.SummaryWriter = lambda *_: self  # type: ignore[attr-defined]
        sys.modules[writer.__name__] = writer
        self._variables: Mapping[str, Any] = {}

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Pause where an iteration ends, which is when it logs its speed."""
        if name == "charts/SPS":
            self._variables = sys._getframe(1).f_globals
            self.pause(step + self.taken)

    def add_text(self, *_: object) -> None:
        """Write nothing."""

    def weights(self) -> dict[str, Any]:
        """Return the weights of the networks, once there are some."""
        return {
            f"{network}/{name}": value.detach().cpu().numpy()
            for network in NETWORKS
            if network in self._variables
            for name, value in self._variables[network].state_dict().items()
        }

    def settings(self) -> dict[str, Any]:
        """Return what torch has been set to."""
        return {"threads": torch.get_num_threads()}


class Sac(Contestant):
    """The script of SAC, which counts from the first step on, and logs every hundredth."""

    taken = 1
    steps_per_call = 100


def make(cell: Any, config: Any, seed: int, threads: int) -> Contestant:
    """Make a training for a cell's task, with settings as near to ours as it has them."""
    torch.set_num_threads(threads)
    task = cell.task.partition("/")[2]
    settings: dict[str, Any] = {
        "env-id": task, "seed": seed, "num-envs": config.num_envs, "gamma": config.gamma,
        "total-timesteps": ENDLESS,
    }  # fmt: skip
    settings |= {"ppo": ppo_settings, "sac": sac_settings}[cell.algorithm](config)
    arguments = ["--no-cuda", *(f"--{name}={value}" for name, value in settings.items())]
    if cell.algorithm == "sac":
        return Sac("sac_continuous_action.py", arguments)
    arguments += ["--no-anneal-lr", "--clip-vloss" if config.clip_value else "--no-clip-vloss"]
    with contextlib.closing(gymnasium.make(task)) as env:
        discrete = isinstance(env.action_space, gymnasium.spaces.Discrete)
    return Contestant("ppo.py" if discrete else "ppo_continuous_action.py", arguments)


def ppo_settings(config: Any) -> dict[str, Any]:
    """Return PPO's settings by its names."""
    return {
        "learning-rate": config.learning_rate,
        "num-steps": config.num_steps,
        "num-minibatches": config.num_minibatches,
        "update-epochs": config.num_epochs,
        "gae-lambda": config.gae_lambda,
        "clip-coef": config.clip,
        "ent-coef": config.entropy_coef,
        "vf-coef": config.value_coef,
        "max-grad-norm": config.max_grad_norm,
    }


def sac_settings(config: Any) -> dict[str, Any]:
    """Return SAC's settings by its names."""
    return {
        "buffer-size": config.replay_size,
        "learning-starts": config.learning_starts,
        "batch-size": config.batch_size,
        "tau": config.tau,
        "policy-lr": config.actor_lr,
        "q-lr": config.critic_lr,
    }
