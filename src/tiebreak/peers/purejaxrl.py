"""Train with PureJaxRL's ppo.py from a checkout, as one program, on gymnax's environments."""

from __future__ import annotations

import importlib.util
import sys
import types
from typing import Any

import jax
import purejaxrl

sys.path.insert(0, next(iter(purejaxrl.__path__)))  # its files import one another from there
if importlib.util.find_spec("navix") is None:  # its wrappers import it, and PPO does not use it
    sys.modules["navix"] = types.ModuleType("navix")

import ppo

LEAST_STEPS = 100_000
"""Environment steps of a call, at least. Its program is a whole training, which begins by drawing
weights and resetting environments: of so many steps that is a small part."""


class Contestant:
    """A training of PureJaxRL, from the beginning in every call."""

    def __init__(self, settings: dict[str, Any], iteration_steps: int, seed: int):
        iterations = -(-LEAST_STEPS // iteration_steps)
        self.steps_per_call = iterations * iteration_steps
        self.done = {"env_steps": 0, "updates": 0}
        self.params: Any = {}
        self._key = jax.random.PRNGKey(seed)
        self._num_envs = settings["NUM_ENVS"]
        self._train = jax.jit(ppo.make_train({**settings, "TOTAL_TIMESTEPS": self.steps_per_call}))

    def train(self, env_steps: int) -> None:
        """Train anew, as often as it takes."""
        for _ in range(env_steps // self.steps_per_call):
            self._key, key = jax.random.split(self._key)
            result = jax.block_until_ready(self._train(key))
            agent = result["runner_state"][0]
            # As its program has counted them: steps of each environment, and of the optimizer.
            self.done["env_steps"] += int(result["metrics"]["timestep"].max()) * self._num_envs
            self.done["updates"] += int(agent.step)
            self.params = agent.params

    def counts(self) -> dict[str, int]:
        """Return steps and updates of all trainings."""
        return dict(self.done)

    def weights(self) -> dict[str, Any]:
        """Return the weights of the last training."""
        leaves, _ = jax.tree_util.tree_flatten_with_path(self.params)
        return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


def make(cell: Any, config: Any, seed: int, threads: int) -> Contestant:
    """Make PPO for a cell's task, with settings as near to ours as it has them."""
    settings = {
        "ENV_NAME": cell.task.partition("/")[2],
        "NUM_ENVS": config.num_envs,
        "NUM_STEPS": config.num_steps,
        "UPDATE_EPOCHS": config.num_epochs,
        "NUM_MINIBATCHES": config.num_minibatches,
        "LR": config.learning_rate,
        "ANNEAL_LR": config.anneal_lr,
        "GAMMA": config.gamma,
        "GAE_LAMBDA": config.gae_lambda,
        "CLIP_EPS": config.clip,
        "ENT_COEF": config.entropy_coef,
        "VF_COEF": config.value_coef,
        "MAX_GRAD_NORM": config.max_grad_norm,
        "ACTIVATION": config.activation,
    }
    return Contestant(settings, config.iteration_steps, seed)
