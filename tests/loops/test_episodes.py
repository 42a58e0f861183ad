"""Episodes are summed up by hand, and a reward that is no number is found where it stands."""

from __future__ import annotations

import numpy as np
import pytest

from tiebreak.core.errors import EnvironmentFailed
from tiebreak.loops.episodes import Episodes

ENDED = np.array([[0, 0], [1, 0], [0, 0], [1, 0], [0, 1]], bool)
"""[T, N]: environment 0 ends in the steps 1 and 3, environment 1 in step 4."""


def test_episodes_that_end_in_a_rollout_are_summed_up_and_others_go_on():
    episodes = Episodes(2)
    reward = np.arange(10.0).reshape(5, 2)
    # Environment 0: 0 + 2 and 4 + 6; environment 1: 1 + 3 + 5 + 7 + 9.
    assert episodes.take(reward, ENDED) == (3, 2.0 + 10.0 + 25.0, 2 + 2 + 5)
    # Of environment 0 a step with reward 8 is under way.
    assert episodes.take(reward[:1], np.array([[True, False]])) == (1, 8.0, 2)


@pytest.mark.parametrize(
    ("t", "i", "step"),
    [(0, 0, 1), (1, 0, 2), (2, 0, 1), (3, 0, 2), (4, 0, 1), (3, 1, 4)],
)
def test_the_step_of_a_wrong_reward_counts_from_the_start_of_its_episode(t, i, step):
    reward = np.zeros((5, 2))
    reward[t, i] = np.nan
    with pytest.raises(EnvironmentFailed, match=rf"nan in step {step} of .*\(environment {i}\)"):
        Episodes(2).take(reward, ENDED)


def test_the_step_of_a_wrong_reward_counts_those_of_earlier_rollouts():
    episodes = Episodes(2)
    episodes.take(np.zeros((5, 2)), ENDED)
    with pytest.raises(EnvironmentFailed, match=r"inf in step 3 of .*environment 0"):
        episodes.take(np.array([[0.0, 0.0], [np.inf, 0.0]]), np.zeros((2, 2), bool))
