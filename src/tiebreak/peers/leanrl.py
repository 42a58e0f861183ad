"""Train with LeanRL's compiled scripts from a checkout, on Gymnasium's environments."""

from __future__ import annotations

import os
import runpy
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import leanrl
import torch

from tiebreak.peers.script import Script

ENDLESS = 2_000_000_000
"""Steps of a training that goes on until it is ended."""

OFF_POLICY = {
    "gamma": "gamma", "buffer-size": "replay_size", "learning-starts": "learning_starts",
    "batch-size": "batch_size", "tau": "tau",
}  # fmt: skip
SETTINGS = {
    "ppo": {
        "gamma": "gamma", "num-envs": "num_envs", "num-steps": "num_steps",
        "learning-rate": "learning_rate", "num-minibatches": "num_minibatches",
        "update-epochs": "num_epochs", "gae-lambda": "gae_lambda", "clip-coef": "clip",
        "ent-coef": "entropy_coef", "vf-coef": "value_coef", "max-grad-norm": "max_grad_norm",
    },
    "td3": OFF_POLICY | {
        "learning-rate": "actor_lr", "policy-frequency": "policy_delay",
        "exploration-noise": "exploration_noise", "policy-noise": "target_noise",
        "noise-clip": "noise_clip",
    },
    "sac": OFF_POLICY | {"policy-lr": "actor_lr", "q-lr": "critic_lr"},
}  # fmt: skip
"""Its options -> our settings."""


class Contestant(Script):
    """A script of LeanRL; the range that its loop runs over is where it pauses."""

    compiles_optimizers = True

    def __init__(self, path: str, arguments: list[str], steps_per_round: int):
        super().__init__(lambda: runpy.run_path(path, run_name="__main__"))
        sys.argv = [path, *arguments]
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, it prints as long as the process lives
        stub("wandb", init=ignore, log=ignore)
        stub("tqdm", tqdm=lambda rounds: Rounds(rounds, self))
        self.steps_per_round = steps_per_round
        self.variables: Mapping[str, Any] = {}

    def weights(self) -> dict[str, Any]:
        """Return the weights of the policy, once there are some."""
        known = [name for name in ("agent", "actor") if name in self.variables]
        return {name: self.variables[name].state_dict() for name in known}


class Rounds:
    """Rounds of the script's loop, in the place of a progress bar."""

    def __init__(self, rounds: Iterable[int], contestant: Contestant):
        self.rounds, self.contestant = rounds, contestant

    def __iter__(self) -> Iterator[int]:
        for done, number in enumerate(self.rounds, 1):
            yield number
            self.contestant.variables = sys._getframe(1).f_globals
            self.contestant.pause(done * self.contestant.steps_per_round)

    def set_description(self, text: str) -> None:
        """Write nothing."""


def stub(name: str, **content: Any) -> None:
    """Put a module in the place of another."""
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(content)


def ignore(*_: Any, **__: Any) -> None:
    """Log nothing."""


def make(cell: Any, config: Any, seed: int, threads: int) -> Contestant:
    """Make a training for a cell's task, with settings as near to ours as it has them."""
    torch.set_num_threads(threads)
    settings = {"env-id": cell.task.partition("/")[2], "seed": seed, "total-timesteps": ENDLESS}
    names = SETTINGS[cell.algorithm]
    settings |= {name: getattr(config, ours) for name, ours in names.items()}
    arguments = ["--no-cuda", "--compile", *(f"--{name}={settings[name]}" for name in settings)]
    file = f"{cell.algorithm}_continuous_action_torchcompile.py"
    path = os.path.join(next(iter(leanrl.__path__)), file)
    if cell.algorithm != "ppo":
        return Contestant(path, arguments, 1)
    arguments += ["--no-anneal-lr", "--clip-vloss" if config.clip_value else "--no-clip-vloss"]
    return Contestant(path, arguments, config.iteration_steps)
