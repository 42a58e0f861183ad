"""Greedy evaluation, by hand: its seeds are its own, its actions are greedy."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from tiebreak import registry
from tiebreak.algorithms.ppo.config import Config
from tiebreak.core.seeding import derive
from tiebreak.core.types import EnvSpec
from tiebreak.loops.evaluate import Evaluator

EPISODES, SEED = 3, 7
CONFIG = Config(num_envs=2, hidden_sizes=(4,))
SPEC = EnvSpec.make(observation_shape=(2,), action_low=(2.0,), action_high=(6.0,))


class Telling(gymnasium.Env):
    """Episodes of two steps; the rewards are the number of the seed, and then the action."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Box(2.0, 6.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.number, self.t = number(seed or 0), 0
        return np.ones(2, np.float32), {}

    def step(self, action):
        self.t += 1
        reward = self.number if self.t == 1 else float(action[0])
        return np.ones(2, np.float32), reward, self.t == 2, False, {}


def number(seed: int) -> float:
    return float(seed % 1000)


@pytest.fixture
def evaluator():
    gymnasium.register("Telling-v0", Telling)
    runtime = registry.make_runtime("linen", "eager")
    raw_agent = registry.make_raw_agent("ppo", SPEC, CONFIG, runtime)
    made = Evaluator(
        algorithm="ppo", runtime=runtime, raw_agent=raw_agent, config=CONFIG,
        task="gymnasium/Telling-v0", episodes=EPISODES, seed=SEED,
    )  # fmt: skip
    yield made, runtime.agent(raw_agent)
    made.close()
    del gymnasium.registry["Telling-v0"]


def test_returns_are_of_greedy_actions_in_environments_with_seeds_of_their_own(evaluator):
    made, agent = evaluator
    state = agent.init(1)
    obs = np.ones((EPISODES, 2), np.float32)
    greedy = np.asarray(agent.act(state, obs, np.zeros((EPISODES, 1), np.float32)).action)[:, 0]
    seeds = [derive(derive(SEED, "evaluation"), "env", i) for i in range(EPISODES)]
    numbers = [number(seed) for seed in seeds]
    assert len({*numbers, *(number(derive(SEED, "env", i)) for i in range(EPISODES))}) == 6
    assert made.returns(state) == pytest.approx(numbers + greedy)
    assert made.returns(state) == pytest.approx(numbers + greedy)  # the same states again
