"""A trained policy in Python: load it, give it observations, get actions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.core import noise
from tiebreak.core.errors import UsageError
from tiebreak.core.memory import Memory, first_memory
from tiebreak.core.types import EnvSpec
from tiebreak.training import policy_files


class LoadedPolicy:
    """A stored policy in one framework; `act` normalizes observations as training did.

    A policy with memory (`network=gru`) remembers what it has seen from call to call, for each
    observation of a batch: call `reset` where episodes begin.
    """

    def __init__(self, stored: policy_files.Policy, framework: str, mode: str, device: str):
        self.algorithm, self.framework, self.mode = stored.algorithm, framework, mode
        self.spec: EnvSpec = stored.spec
        """Shapes of observations and actions."""
        self.config = stored.config
        self.metadata = stored.metadata
        """As stored: algorithm, task, framework, seed, steps, …"""
        self._agent = registry.make_agent(
            stored.algorithm, framework, stored.spec, stored.config, mode=mode, device=device
        )
        self._state = self._agent.load(stored.weights)
        self._memory: tuple[Memory, ...] | None = None

    def act(
        self,
        obs: Any,
        deterministic: bool = True,
        rng: np.random.Generator | int | None = None,
    ) -> np.ndarray:
        """Return the action for an observation, or the actions for a batch of them.

        Args:
          obs: [*observation_shape], or [N, *observation_shape]; numbers that NumPy can read.
            Compiled modes compile once for each N.
          deterministic: The mean or the best action. False samples, where the policy is stochastic.
          rng: Generator or seed of the samples.

        Returns:
          In the environment's units, [*action_shape] or [N, *action_shape]: an integer from 0, one
          for each choice, or numbers within the bounds.

        Raises UsageError for observations of another shape, for samples of a policy that has no
        distribution, and for more or fewer observations than a policy with memory remembers.
        """
        batch, is_single = self._batch(obs)
        data = registry.data_module(self.algorithm)
        draw = data.act_noise(self.spec, len(batch))
        if deterministic:
            draws = np.zeros(draw.shape, np.float32)
        else:
            self._require_distribution()
            draws = noise.sample(draw, np.random.default_rng(rng))
        act = self._agent.act(self._state, batch, draws, *self._recall(len(batch)))
        if self._memory:
            self._memory = (Memory(act.hidden, np.zeros(len(batch), bool)),)
        actions = np.asarray(act.action)
        return actions[0] if is_single else actions

    def reset(self, ended: Any = None) -> None:
        """Forget what was seen: new episodes begin. A policy without memory has nothing to forget.

        Args:
          ended: [N], True for the observations of a batch whose episodes have ended; default: all.
        """
        if ended is None or not self._memory:
            self._memory = None
            return
        hidden, begins = self._memory[0]
        ended = np.asarray(ended, bool)
        if ended.shape != begins.shape:
            raise UsageError(
                f"{self!r} has a memory for a batch of {len(begins)}; reset takes as many, got an "
                f"array of the shape {ended.shape}"
            )
        self._memory = (Memory(hidden, begins | ended),)

    def _recall(self, count: int) -> tuple[Memory, ...]:
        """Return what is remembered of `count` episodes; () without memory."""
        if self._memory is None:
            self._memory = first_memory(self.config, np.ones(count, bool), np.asarray)
        for memory in self._memory:
            if len(memory.begins) != count:
                raise UsageError(
                    f"{self!r} has a memory for a batch of {len(memory.begins)}, and got {count} "
                    "observations: call reset() as new episodes begin"
                )
        return self._memory

    def _batch(self, obs: Any) -> tuple[np.ndarray, bool]:
        """Return observations as [N, *shape] float32, and True if it was one."""
        shape = self.spec.observation_shape
        try:
            array = np.asarray(obs, np.float32)
        except (TypeError, ValueError) as error:
            raise UsageError(f"observations must be numbers: {error}") from error
        if array.shape == shape:
            return array[None], True
        if array.shape[1:] == shape and len(array):
            return array, False
        raise UsageError(
            f"observations of {self!r} have the shape {shape}, batches of them "
            f"{('N', *shape)}; got {array.shape}"
        )

    def _require_distribution(self) -> None:
        if not registry.ALGORITHMS[self.algorithm].stochastic:
            having = [name for name, row in registry.ALGORITHMS.items() if row.stochastic]
            raise UsageError(
                f"a policy of {self.algorithm} has one action for each observation: nothing is to "
                f"be sampled (policies of {', '.join(having)} are distributions)"
            )

    def __repr__(self) -> str:
        task = self.metadata.get("task", "an unnamed task")
        return f"<policy of {self.algorithm} for {task}, in {self.framework} {self.mode}>"


def load_policy(
    directory: str | Path,
    framework: str | None = None,
    *,
    mode: str | None = None,
    device: str = "cpu",
    allow_import: bool = False,
) -> LoadedPolicy:
    """Return the policy that a training run has stored, ready to act.

    Args:
      directory: The run's folder, or a `.safetensors` file in it.
      framework: Any that is installed; default: the one that it was trained in.
      mode: How the framework runs it; default: eager in torch and TensorFlow, where compiling
        takes longer than it saves, else the framework's own default.
      device: `cpu` or `gpu`.
      allow_import: Import the module of a network of the user's own that the policy's file names.

    Raises UsageError for a folder without a policy, and for unknown names.
    """
    stored = policy_files.load_runnable(directory, allow_import)
    framework = framework or stored.metadata.get("framework")
    if framework is None:
        raise UsageError(f"the policy in {str(directory)!r} names no framework: choose one")
    mode = acting_mode(framework) if mode is None else registry.mode(framework, mode)
    return LoadedPolicy(stored, framework, mode, device)


def acting_mode(framework: str) -> str:
    """Return the mode in which a framework acts soonest: compiling for it alone takes longest."""
    row = registry.framework(framework)
    soon = "eager" in row.modes and row.runtime != "jax"
    return registry.mode(framework, "eager" if soon else None)
