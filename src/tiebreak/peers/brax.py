"""Train with brax.training's PPO, on brax's and Playground's environments."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from brax import envs
from brax.training.agents.ppo import networks
from brax.training.agents.ppo import train as ppo

from tiebreak.peers.script import Script

EPOCHS = 100_000
"""Calls after which its training would end."""

STEPS_PER_CALL = 10_000
"""About how many environment steps an epoch of its has, as a call of our fused loops does."""

ACTIVATIONS = {"tanh": nn.tanh, "relu": nn.relu}


def device_put_replicated(tree: Any, devices: Sequence[Any]) -> Any:
    """Return a tree on all devices, as JAX's function did that brax calls.

    It is placed as a `pmap` of brax's leaves it: otherwise its program would be compiled twice.
    """
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(devices)), tree)
    return jax.pmap(lambda leaves: leaves, axis_name="i")(stacked)


jax.device_put_replicated = device_put_replicated  # type: ignore[assignment], JAX 0.10 has none


class Contestant(Script):
    """A training of brax that pauses after every epoch, which is one program."""

    def __init__(self, settings: dict[str, Any], iteration_steps: int):
        iterations = max(1, STEPS_PER_CALL // iteration_steps)
        self.steps_per_call = iterations * iteration_steps
        self._policy: Any = {}
        super().__init__(
            lambda: ppo.train(
                **settings,
                num_timesteps=EPOCHS * self.steps_per_call,
                num_evals=EPOCHS + 1,
                run_evals=False,
                policy_params_fn=self._end_epoch,
            )
        )

    def _end_epoch(self, steps: int, make_policy: Any, params: Any) -> None:
        """Pause; `params` are those of the normalizer, the policy and the value."""
        self._policy = jax.block_until_ready(params)[1]
        self.pause(steps)

    def weights(self) -> dict[str, Any]:
        """Return the weights of the policy, once there are some."""
        return self._policy


def make(cell: Any, config: Any, seed: int, threads: int) -> Contestant:
    """Make PPO for a cell's task, with settings as near to ours as it has them."""
    if config.num_envs % config.num_minibatches:
        raise ValueError("its minibatches are whole environments: num_minibatches divides num_envs")
    make_networks = functools.partial(
        networks.make_ppo_networks,
        policy_hidden_layer_sizes=config.hidden_sizes,
        value_hidden_layer_sizes=config.hidden_sizes,
        activation=ACTIVATIONS[config.activation],
        distribution_type="normal",
        noise_std_type="log",
    )
    settings = {
        **make_environment(cell.task),
        "num_envs": config.num_envs,
        "unroll_length": config.num_steps,
        "batch_size": config.num_envs // config.num_minibatches,
        "num_minibatches": config.num_minibatches,
        "num_updates_per_batch": config.num_epochs,
        "learning_rate": config.learning_rate,
        "entropy_cost": config.entropy_coef,
        "discounting": config.gamma,
        "gae_lambda": config.gae_lambda,
        "clipping_epsilon": config.clip,
        "clipping_epsilon_value": config.clip if config.clip_value else None,
        "vf_loss_coefficient": config.value_coef,
        "max_grad_norm": config.max_grad_norm,
        "normalize_observations": config.normalize_obs,
        "normalize_advantage": config.normalize_advantage,
        "network_factory": make_networks,
        "seed": seed,
    }
    return Contestant(settings, config.iteration_steps)


def make_environment(task: str) -> dict[str, Any]:
    """Return what `train` needs to know about the environment of a task."""
    engine, _, name = task.partition("/")
    if engine == "brax":
        return {"environment": envs.get_environment(name), "episode_length": 1000}

    from mujoco_playground import registry, wrapper

    defaults = registry.get_default_config(name)
    physics: Any = {"impl": "jax"} if "impl" in defaults else None
    return {
        "environment": registry.load(name, config_overrides=physics),
        "episode_length": defaults.episode_length,
        "action_repeat": defaults.action_repeat,
        "wrap_env_fn": wrapper.wrap_for_brax_training,
    }
