"""An Atari game is learned a little within a stated budget.

On demand: `ATARI=1 pytest -s tests/training/test_atari.py`, a quarter of an hour on two cores.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

import tiebreak
from tiebreak.envs.base import make_env

TASK, GAMES = "envpool/RoadRunner-v5", 20
BUDGET = 100_000
"""Environment steps, of four frames."""


def random_returns() -> np.ndarray:
    """Return the scores of whole games of a policy that draws its actions evenly."""
    env = make_env(TASK, GAMES, seed=0, evaluating=True)
    env.reset()
    rng, running, returns = np.random.default_rng(0), np.ones(GAMES, bool), np.zeros(GAMES)
    while running.any():
        out = env.step(rng.integers(env.spec.action_size, size=GAMES))
        returns += np.where(running, out.reward, 0.0)
        running &= ~(out.terminated | out.truncated)
    return returns


@pytest.mark.skipif("ATARI" not in os.environ, reason="on demand: ATARI=1")
def test_ppo_learns_to_run(tmp_path):
    result = tiebreak.train(
        "ppo", "torch", TASK, total_steps=BUDGET, out=tmp_path / "run", eval_episodes=GAMES
    )
    drawn = random_returns()
    print(f"PPO {np.mean(result.returns):.2f}, at random {drawn.mean():.2f}")
    assert drawn.mean() < 50
    assert np.mean(result.returns) > 300
