"""The part that host loops share: environments stepped from Python, and their snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tiebreak.core.errors import EnvironmentFailed
from tiebreak.core.prefixes import Arrays, add_prefix, strip_prefix
from tiebreak.core.seeding import derive
from tiebreak.core.types import Agent, Array, Tree
from tiebreak.envs.base import HostEnv
from tiebreak.frameworks.runtime import Runtime, numpy_stack
from tiebreak.loops.base import Loop
from tiebreak.loops.episodes import Episodes


class HostLoop(Loop):
    """A loop in Python over an environment that is stepped from Python.

    With a host engine, observations and outcomes are NumPy; behind the bridge they are the
    runtime's own arrays, which stay on the device.
    """

    kind = "host"

    def __init__(self, runtime: Runtime, raw_agent: Agent, env: HostEnv, config: Any, seed: int):
        self.runtime, self.raw_agent, self.env = runtime, raw_agent, env
        self.spec, self.config = env.spec, config
        self.ranks = runtime.ranks
        self.agent = runtime.agent(raw_agent)
        self.state = self.agent.init(derive(seed, "weights"))
        self._noise_seed = derive(seed, "noise")
        self._obs = env.reset()
        self._on_device = not isinstance(self._obs, np.ndarray)
        self._episodes = Episodes(self.ranks.count * env.num_envs)

    @property
    def obs(self) -> Array:
        return self._obs

    @property
    def _iteration(self) -> int:
        return self.steps // self.config.iteration_steps

    def dump(self) -> Arrays:
        """Return the learner's state and, where the engine takes snapshots, the environments'."""
        arrays = super().dump()
        env = self._joined_snapshot()
        if env is None:
            return arrays
        obs = self.runtime.to_numpy((self._obs,))[0] if self._on_device else self._obs
        (obs,) = self.ranks.gather((obs,), axis=0)
        episodes = add_prefix("episodes", self._episodes.dump())
        return {**arrays, "obs": obs, **episodes, **add_prefix("env", env)}

    def load(self, arrays: Mapping[str, np.ndarray]) -> bool:
        super().load(arrays)
        if "obs" not in arrays:
            return False
        self.env.restore(self._own_snapshot(strip_prefix("env", arrays)))
        self._episodes.load(strip_prefix("episodes", arrays))
        self._obs = self._to_env_side(self.ranks.part(arrays["obs"], axis=0))
        return True

    def _joined_snapshot(self) -> Arrays | None:
        """Return the snapshot of all ranks' environments, numbered as in one process."""
        own = self.env.snapshot()
        if self.ranks.count == 1 or own is None:  # an engine that takes none takes none anywhere
            return own
        joined: Arrays = {}
        for rank, snapshot in enumerate(self.ranks.gather_all(own)):
            joined |= _renumbered(snapshot, rank * self.env.num_envs)
        return joined

    def _own_snapshot(self, joined: Arrays) -> Arrays:
        """Return this rank's part of a snapshot of all environments."""
        if self.ranks.count == 1:
            return joined
        first = self.ranks.rank * self.env.num_envs
        own = [str(first + i) for i in range(self.env.num_envs)]
        arrays = {name: x for name, x in joined.items() if name.partition("/")[0] in own}
        return _renumbered(arrays, -first)

    def _check_observations(self, obs: Array) -> None:
        """Raise EnvironmentFailed for observations [T, N, …] that are NaN or infinite.

        Those of device engines stay on the device, unseen.
        """
        if self._on_device or np.isfinite(obs).all():
            return
        t, i, *_ = np.argwhere(~np.isfinite(obs))[0]
        value = next(v for v in np.ravel(obs[t, i]) if not np.isfinite(v))
        raise EnvironmentFailed(
            f"the environment's observation holds {value} (environment {i}, within "
            f"{len(obs)} steps of training step {self.steps}): observations must be finite numbers"
        )

    def _to_env_side(self, array: np.ndarray) -> Array:
        """Return a NumPy array in the form that the environment's own arrays have."""
        return self.runtime.asarray(array) if self._on_device else array

    def _stack(self, steps: list[Tree]) -> Tree:
        """Stack steps of all environments along a new leading axis T."""
        return self.runtime.stack(steps) if self._on_device else numpy_stack(steps)


def _renumbered(snapshot: Mapping[str, np.ndarray], shift: int) -> Arrays:
    """Return a snapshot whose names begin with the number of an environment, shifted."""
    out: Arrays = {}
    for name, array in snapshot.items():
        number, _, rest = name.partition("/")
        out[f"{int(number) + shift}/{rest}"] = array
    return out
