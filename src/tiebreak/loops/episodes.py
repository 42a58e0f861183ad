"""Returns and lengths of episodes, on the host; fused programs have loops/fused_base.py."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tiebreak.core.errors import EnvironmentFailed
from tiebreak.core.prefixes import Arrays


class Episodes:
    """Returns and lengths of the episodes of N environments, fed one rollout at a time."""

    def __init__(self, num_envs: int):
        self._return = np.zeros(num_envs)
        self._length = np.zeros(num_envs, np.int64)

    def take(self, reward: np.ndarray, ended: np.ndarray) -> tuple[int, float, int]:
        """Take a rollout, and sum up the episodes that ended in it.

        Args:
            reward: [T, N]
            ended: [T, N] bool, terminated or truncated.

        Returns:
            Number of episodes, sum of their returns, sum of their lengths.

        Raises EnvironmentFailed for a reward that is NaN or infinite.
        """
        if not np.isfinite(reward).all():
            self._refuse(reward, ended)
        episodes, return_sum, length_sum = 0, 0.0, 0
        for step_reward, step_ended in zip(reward, ended, strict=True):
            self._return += step_reward
            self._length += 1
            if step_ended.any():
                episodes += int(step_ended.sum())
                return_sum += float(self._return[step_ended].sum())
                length_sum += int(self._length[step_ended].sum())
                self._return[step_ended] = 0.0
                self._length[step_ended] = 0
        return episodes, return_sum, length_sum

    def _refuse(self, reward: np.ndarray, ended: np.ndarray) -> None:
        """Raise EnvironmentFailed, with the place of the first reward that is no number."""
        t, i = np.argwhere(~np.isfinite(reward))[0]
        ends = np.flatnonzero(ended[:t, i])
        step = t - ends[-1] if len(ends) else self._length[i] + t + 1
        raise EnvironmentFailed(
            f"the environment's reward is {reward[t, i]} in step {step} of an episode "
            f"(environment {i}): rewards must be finite numbers"
        )

    def dump(self) -> Arrays:
        """Return the episodes under way."""
        return {"return": self._return, "length": self._length}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore the episodes of a `dump`."""
        self._return[:] = arrays["return"]
        self._length[:] = arrays["length"]
