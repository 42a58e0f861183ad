"""Returns and lengths of episodes, on the host."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tiebreak.core.prefixes import Arrays


class Episodes:
    """Returns and lengths of the episodes of N environments, fed one rollout at a time."""

    def __init__(self, num_envs: int):
        self._return, self._length = np.zeros(num_envs), np.zeros(num_envs, np.int64)

    def take(self, reward: np.ndarray, ended: np.ndarray) -> tuple[int, float, int]:
        """reward, ended [T, N] -> number of episodes that ended, sum of returns, of lengths."""
        episodes, return_sum, length_sum = 0, 0.0, 0
        for row, over in zip(reward, ended, strict=True):
            self._return += row
            self._length += 1
            if over.any():
                episodes += int(over.sum())
                return_sum += float(self._return[over].sum())
                length_sum += int(self._length[over].sum())
                self._return[over], self._length[over] = 0.0, 0
        return episodes, return_sum, length_sum

    def dump(self) -> Arrays:
        """The episodes under way."""
        return {"return": self._return, "length": self._length}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """What `dump` gave."""
        self._return[:], self._length[:] = arrays["return"], arrays["length"]
