"""Train with PureJaxRL's ppo.py or dqn.py from a checkout, as one program, on gymnax's tasks."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

import jax
import purejaxrl

from tiebreak.peers.script import stand_in

sys.path.insert(0, next(iter(purejaxrl.__path__)))  # its files import one another from there
for unused in ("navix", "wandb"):  # its files import them
    if importlib.util.find_spec(unused) is None:
        stand_in(unused)
jax.tree_map = jax.tree.map  # type: ignore[attr-defined], newer versions of JAX have none

STEPS = 100_000
"""Environment steps of a call, at least. Its program is a whole training, which begins by drawing
weights and resetting environments: of so many steps that is a small part."""

LEAST_STEPS = 10_000
"""Those of each agent, at least, where several are trained."""


class Contestant:
    """Trainings of PureJaxRL, from the beginning in every call."""

    def __init__(self, cell: Any, settings: dict[str, Any], iteration_steps: int, seed: int):
        self._algorithm, self._agents = cell.algorithm, cell.agents
        self._num_envs, self._key = cell.num_envs, jax.random.PRNGKey(seed)
        iterations = -(-max(STEPS // cell.agents, LEAST_STEPS) // iteration_steps)
        self.steps_per_call = iterations * iteration_steps
        self.done = {"env_steps": 0} | ({"updates": 0} if cell.algorithm == "ppo" else {})
        self.params: Any = {}
        make_train = importlib.import_module(cell.algorithm).make_train
        train = make_train({**settings, "TOTAL_TIMESTEPS": self.steps_per_call})
        self._is_population = cell.probe == "population"
        self._train = jax.jit(jax.vmap(train) if self._is_population else train)

    def train(self, env_steps: int) -> None:
        """Train anew, as often as it takes."""
        for _ in range(env_steps // self.steps_per_call):
            self._key, *keys = jax.random.split(self._key, self._agents + 1)
            key = jax.numpy.stack(keys) if self._is_population else keys[0]
            result = jax.block_until_ready(self._train(key))
            self._count(result["runner_state"][0], result["metrics"])

    def _count(self, agent: Any, metrics: Any) -> None:
        """Add what its program has counted: steps of environments, and of the optimizer."""
        self.params = agent.params
        if self._algorithm == "dqn":
            self.done["env_steps"] += int(agent.timesteps)
            return
        self.done["env_steps"] += int(metrics["timestep"].max()) * self._num_envs * self._agents
        self.done["updates"] += int(agent.step.sum())

    def counts(self) -> dict[str, int]:
        """Return steps and updates of all trainings."""
        return dict(self.done)

    def weights(self) -> dict[str, Any]:
        """Return the weights of the last training."""
        return self.params

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


def make(cell: Any, config: Any, seed: int, threads: int) -> Contestant:
    """Make an agent for a cell's task, with settings as near to ours as it has them."""
    settings = {"ppo": ppo_settings, "dqn": dqn_settings}[cell.algorithm](config)
    settings |= {"NUM_ENVS": config.num_envs, "GAMMA": config.gamma, "LR": config.learning_rate}
    settings["ENV_NAME"] = cell.task.partition("/")[2]
    return Contestant(cell, settings, config.iteration_steps, seed)


def ppo_settings(config: Any) -> dict[str, Any]:
    """Return PPO's settings by its names."""
    return {
        "NUM_STEPS": config.num_steps,
        "UPDATE_EPOCHS": config.num_epochs,
        "NUM_MINIBATCHES": config.num_minibatches,
        "ANNEAL_LR": config.anneal_lr,
        "GAE_LAMBDA": config.gae_lambda,
        "CLIP_EPS": config.clip,
        "ENT_COEF": config.entropy_coef,
        "VF_COEF": config.value_coef,
        "MAX_GRAD_NORM": config.max_grad_norm,
        "ACTIVATION": config.activation,
    }


def dqn_settings(config: Any) -> dict[str, Any]:
    """Return DQN's settings by its names; a call's first steps fill the replay for one batch."""
    return {
        "BUFFER_SIZE": config.replay_size,
        "BUFFER_BATCH_SIZE": config.batch_size,
        "LEARNING_STARTS": 0,
        "TRAINING_INTERVAL": config.round_steps // config.num_updates,
        "TARGET_UPDATE_INTERVAL": config.target_every,
        "TAU": 1.0,
        "EPSILON_START": config.epsilon_start,
        "EPSILON_FINISH": config.epsilon_end,
        "EPSILON_ANNEAL_TIME": config.exploration_fraction * config.total_steps,
    }
