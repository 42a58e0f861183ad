"""Train with FastTD3's own train.py from a checkout, on Playground's environments."""

from __future__ import annotations

import os
import sys
import types
from typing import Any

import jax
import torch
from brax.envs.wrappers.training import EpisodeWrapper, VmapWrapper
from mujoco_playground import registry, wrapper

from tiebreak.peers.script import Script, stand_in

ENDLESS = 2_000_000_000
"""Iterations of a training that goes on until it is ended."""

OFF = ("--no-cuda", "--no-amp", "--no-use-wandb", "--eval-interval=0", "--render-interval=0",
       "--save-interval=0")  # fmt: skip
"""Options without which it needs a GPU or an account, or evaluates between iterations."""

SETTINGS = {
    "num-envs": "num_envs", "batch-size": "batch_size", "num-updates": "num_updates",
    "policy-frequency": "policy_delay", "num-steps": "n_step", "gamma": "gamma", "tau": "tau",
    "policy-noise": "target_noise", "noise-clip": "noise_clip", "std-min": "noise_min",
    "std-max": "noise_max", "v-min": "v_min", "v-max": "v_max", "num-atoms": "num_atoms",
    "init-scale": "init_scale", "weight-decay": "weight_decay", "critic-learning-rate": "critic_lr",
    "critic-learning-rate-end": "critic_lr", "actor-learning-rate": "actor_lr",
    "actor-learning-rate-end": "actor_lr",
}  # fmt: skip
"""Its options -> our settings."""


class KeepsObservation(wrapper.Wrapper):
    """Keep the last observation of an episode, which an automatic reset replaces."""

    def reset(self, rng: Any) -> Any:
        """Start episodes."""
        state = self.env.reset(rng)
        return state.replace(info={**state.info, "raw_obs": state.obs})

    def step(self, state: Any, action: Any) -> Any:
        """Step."""
        state = self.env.step(state, action)
        return state.replace(info={**state.info, "raw_obs": state.obs})


class Environments:
    """Playground's environments as train.py uses them: its authors' wrapper is in a fork."""

    asymmetric_obs = False

    def __init__(self, name: str, seed: int, num_envs: int):
        settings: Any = registry.get_default_config(name)
        env: Any = registry.load(name, config_overrides={"impl": "jax"})
        env = EpisodeWrapper(VmapWrapper(env), settings.episode_length, settings.action_repeat)
        env = wrapper.BraxAutoResetWrapper(KeepsObservation(env))
        self.num_envs, self.num_obs = num_envs, env.observation_size
        self.num_actions = env.action_size
        self._keys = jax.random.split(jax.random.PRNGKey(seed), num_envs)
        self._reset, self._step = jax.jit(env.reset), jax.jit(env.step)

    def reset(self) -> Any:
        """Start all episodes; return observations."""
        state = self._reset(self._keys)  # its weak types would have `step` compiled twice
        self._state = jax.block_until_ready(jax.tree.map(lambda x: x.astype(x.dtype), state))
        return torch.from_dlpack(self._state.obs)

    def step(self, actions: Any) -> tuple[Any, Any, Any, dict[str, Any]]:
        """Step all environments."""
        action = jax.dlpack.from_dlpack(actions.clip(-1.0, 1.0).contiguous())
        self._state = state = jax.block_until_ready(self._step(self._state, action))
        cut, raw = (torch.from_dlpack(state.info[name]) for name in ("truncation", "raw_obs"))
        info = {"time_outs": cut, "observations": {"raw": {"obs": raw}}}
        return *map(torch.from_dlpack, (state.obs, state.reward, state.done)), info


class Contestant(Script):
    """The script of FastTD3; its progress bar is where it pauses."""

    compiles_optimizers = True

    def __init__(self, arguments: list[str], config: Any):
        sys.path.insert(0, os.path.join(sys.path[0], "fast_td3"))  # files import one another there
        sys.argv = ["train.py", *arguments]
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, it prints as long as the process lives
        bar = types.SimpleNamespace(update=self._end_iteration, set_description=print)
        stand_in("wandb")
        stand_in("tqdm", tqdm=lambda *_, **__: bar)
        stand_in("environments.mujoco_playground_env", make_env=make_environments)
        threads = os.environ["OMP_NUM_THREADS"]

        import train  # sets variables of the process

        os.environ["OMP_NUM_THREADS"] = threads
        super().__init__(train.main)
        self.steps_per_call = config.iteration_steps  # ours are short, too, where updates are long
        self._num_envs, self._iterations = config.num_envs, 0
        self._variables: dict[str, Any] = {}

    def _end_iteration(self, iterations: int) -> None:
        """Pause where the script moves its progress bar."""
        self._variables = self._variables or sys._getframe(1).f_locals
        self._iterations += iterations
        self.pause(self._iterations * self._num_envs)

    def weights(self) -> dict[str, Any]:
        """Return the weights of the actor, once there is one."""
        return self._variables["actor"].state_dict() if self._variables else {}


def make_environments(name: str, seed: int, num_envs: int, *_: Any, **__: Any) -> tuple:
    """Make the environments of the training; those for evaluation and pictures are not used."""
    return Environments(name, seed, num_envs), None, None


def make(cell: Any, config: Any, seed: int, threads: int) -> Contestant:
    """Make a training for a cell's task, with settings as near to ours as it has them."""
    torch.set_num_threads(threads)
    settings = {
        "env-name": cell.task.partition("/")[2], "seed": seed, "total-timesteps": ENDLESS,
        "buffer-size": config.replay_size // config.num_envs,
        "learning-starts": config.learning_starts // config.num_envs - 1,
        "critic-hidden-dim": config.critic_sizes[0], "actor-hidden-dim": config.actor_sizes[0],
        **{name: getattr(config, ours) for name, ours in SETTINGS.items()},
    }  # fmt: skip
    arguments = [*OFF, *(f"--{name}={value}" for name, value in settings.items())]
    return Contestant(arguments, config)
