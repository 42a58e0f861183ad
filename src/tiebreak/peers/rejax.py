"""Train with rejax, rollout and updates in one program, on gymnax's environments."""

from __future__ import annotations

from typing import Any

import jax
import rejax


class Contestant:
    """An algorithm of rejax with its state; evaluation, which its `train` has, is left out."""

    def __init__(self, algorithm: Any, cell: Any, seed: int):
        init, step, keys = algorithm.init_state, algorithm.train_iteration, jax.random.PRNGKey(seed)
        if cell.probe == "population":
            init, step, keys = jax.vmap(init), jax.vmap(step), jax.random.split(keys, cell.agents)
        self.state = jax.jit(init)(keys)
        self.iteration_steps = algorithm.num_envs * algorithm.num_steps

        def iterate(state: Any, iterations: int) -> Any:
            return jax.lax.fori_loop(0, iterations, lambda _, state: step(state), state)

        def act(params: Any, obs: Any) -> Any:
            return algorithm.actor.apply(params, obs, method="_action_dist").mode()

        self._iterate, self._act = jax.jit(iterate, static_argnums=1), jax.jit(act)

    def train(self, env_steps: int) -> None:
        """Train for whole iterations in one program."""
        self.state = self._iterate(self.state, env_steps // self.iteration_steps)
        jax.block_until_ready(self.state)

    def counts(self) -> dict[str, int]:
        """Return steps and updates as the program has counted them."""
        return {
            "env_steps": int(self.state.global_step.sum()),
            "updates": int(self.state.actor_ts.step.sum()),
        }

    def act(self, obs: Any) -> Any:
        """Return greedy actions."""
        return self._act(self.state.actor_ts.params, obs)

    def weights(self) -> dict[str, Any]:
        """Return the weights of the policy."""
        return self.state.actor_ts.params

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


def make(cell: Any, config: Any, seed: int, threads: int) -> Contestant:
    """Make PPO for a cell's task, with settings as near to ours as it has them."""
    algorithm = rejax.PPO.create(  # type: ignore[attr-defined], it is not this file
        env=cell.task.partition("/")[2],
        agent_kwargs={
            "activation": config.activation,
            "hidden_layer_sizes": config.hidden_sizes,
        },
        num_envs=config.num_envs,
        num_steps=config.num_steps,
        num_epochs=config.num_epochs,
        num_minibatches=config.num_minibatches,
        learning_rate=config.learning_rate,
        max_grad_norm=config.max_grad_norm,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip_eps=config.clip,
        ent_coef=config.entropy_coef,
        vf_coef=config.value_coef,
        normalize_observations=config.normalize_obs,
        normalize_rewards=config.normalize_reward,
    )
    return Contestant(algorithm, cell, seed)
