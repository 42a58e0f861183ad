"""Environments whose numbers are none, or whose episodes never end: named, bounded, not blamed."""

from __future__ import annotations

from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import tiebreak
from tiebreak.core.errors import EnvironmentFailed
from tiebreak.loops import evaluate
from tiebreak.loops.host_base import HostLoop

SMALL = {"num_envs": 2, "total_steps": 64, "hidden_sizes": (8,)}
PPO = {**SMALL, "num_steps": 16, "num_minibatches": 1, "num_epochs": 1}
DQN = {
    **SMALL, "num_steps": 1, "num_rounds": 8, "learning_starts": 16, "batch_size": 8,
    "replay_size": 32, "target_every": 8,
}  # fmt: skip


class Odd(gymnasium.Env):
    """Episodes of `length` steps; the reward and the observation of step `at` are others."""

    observation_space = spaces.Box(-1, 1, (3,), np.float32)
    action_space = spaces.Discrete(2)
    length, at, reward, obs = 7, 5, 1.0, 1.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.ones(3, np.float32), {}

    def step(self, action):
        self.t += 1
        odd = self.t == self.at
        obs = np.full(3, self.obs if odd else 1.0, np.float32)
        return obs, self.reward if odd else 1.0, self.t >= self.length, False, {}


def trained(tmp_path, name, algorithm="ppo", **attributes):
    gymnasium.register(f"{name}-v0", type(name, (Odd,), attributes))
    settings = {"ppo": PPO, "dqn": DQN}[algorithm]
    episodes = attributes.pop("episodes", 0)
    return tiebreak.train(
        algorithm, "torch", f"gymnasium/{name}-v0", mode="eager", out=tmp_path / "run",
        overrides=settings, eval_episodes=episodes, progress=False,
    )  # fmt: skip


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_reward_that_is_no_number_is_the_environment_s(tmp_path, algorithm, value):
    name = f"Reward{algorithm}{value}".replace("-", "m")
    message = rf"environment's reward is {value} in step 5 of an episode \(environment 0\)"
    with pytest.raises(EnvironmentFailed, match=message):
        trained(tmp_path, name, algorithm, reward=value)


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_an_observation_that_is_no_number_is_the_environment_s(tmp_path, algorithm):
    with pytest.raises(EnvironmentFailed, match=r"observation holds nan \(environment 0, within"):
        trained(tmp_path, f"Obs{algorithm}", algorithm, obs=np.nan)


def test_the_first_observation_that_is_no_number_is_the_one_that_is_named():
    loop = SimpleNamespace(_on_device=False, steps=40)
    obs = np.ones((4, 3, 2), np.float32)
    obs[1, 2, 0] = np.inf
    obs[2, 0] = np.nan
    message = r"holds inf \(environment 2, within 4 steps of training step 40\)"
    with pytest.raises(EnvironmentFailed, match=message):
        HostLoop._check_observations(loop, obs)


def test_a_number_that_is_none_in_evaluation_leaves_a_result(tmp_path):
    message = "reward is nan in step 100 of evaluation episode 0"
    with pytest.raises(EnvironmentFailed, match=message):
        trained(tmp_path, "Late", at=100, length=120, reward=np.nan, episodes=2)
    assert '"status": "failed"' in (tmp_path / "run" / "result.json").read_text()
    assert (tmp_path / "run" / "policy.safetensors").exists()


def test_an_evaluation_that_never_ends_is_cut_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "LONGEST_EPISODE", 50)
    result = trained(tmp_path, "Endless", length=10**9, episodes=2)
    assert (result.returns, result.cut) == ([50.0, 50.0], 2)
    assert '"cut": 2' in (tmp_path / "run" / "result.json").read_text()
    assert tiebreak.evaluate(tmp_path / "run", mode="eager", episodes=3).cut == 3
    shorter = tiebreak.evaluate(tmp_path / "run", mode="eager", episodes=2, max_steps=20)
    assert (shorter.returns, shorter.cut, shorter.max_steps) == ([20.0, 20.0], 2, 20)


def test_the_limit_is_the_task_s_or_the_user_s_whichever_is_less():
    for own, given, limit in ((0, None, 10_000), (500, None, 500), (0, 70, 70), (500, 70, 70)):
        assert evaluate.episode_limit(own, given) == limit
    assert evaluate.episode_limit(20_000, None) == 20_000
    assert evaluate.episode_limit(500, 700) == 500
