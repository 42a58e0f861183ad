"""Several discrete choices at once: PPO trains, stores, loads, evaluates and exports."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import tiebreak
from tiebreak import cli
from tiebreak.envs.subprocess_worker import slot_bytes, slots


class Match(gymnasium.Env):
    """Rewards each choice that is the one shown; episodes are 8 steps long."""

    observation_space = spaces.Box(0.0, 1.0, (5,), np.float32)
    action_space = spaces.MultiDiscrete([2, 3], start=[5, 0])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.shown(), {}

    def shown(self):
        self.right = self.np_random.integers([2, 3])
        obs = np.zeros(5, np.float32)
        obs[self.right[0]] = obs[2 + self.right[1]] = 1.0
        return obs

    def step(self, action):
        assert self.action_space.contains(action)
        reward = float((action - [5, 0] == self.right).sum())
        self.steps += 1
        return self.shown(), reward, False, self.steps == 8, {}


def train(folder, **settings):
    settings = {"mode": "eager", "num_envs": 4, "num_steps": 32, "hidden_sizes": (16,), **settings}
    return tiebreak.train("ppo", "torch", env=Match, out=folder, progress=False, **settings)


def test_train_act_evaluate_and_export(tmp_path):
    pytest.importorskip("torch")
    run = train(tmp_path / "run", total_steps=256, eval_episodes=2)
    obs = np.eye(5, dtype=np.float32)
    actions = run.policy.act(obs)
    assert actions.shape == (5, 2)
    assert actions.dtype.kind == "i"
    assert run.policy.act(obs[1]).tolist() == actions[1].tolist()
    assert len(run.evaluate(episodes=3).returns) == 3
    assert tiebreak.export_policy(run.out, "numpy").difference < 1e-5
    assert tiebreak.load_policy(run.out).spec.nvec == (2, 3)


@pytest.mark.slow
def test_both_choices_are_learned(tmp_path):
    pytest.importorskip("torch")
    run = train(tmp_path / "run", total_steps=8_000, learning_rate=3e-3)
    assert np.mean(run.returns) > 15  # of 16


def test_processes_pass_all_choices_on():
    spec = tiebreak.EnvSpec.make(observation_shape=(3,), nvec=(2, 3))
    action = slots(spec, 4, bytearray(4 * slot_bytes(spec))).action
    assert (action.shape, action.dtype) == ((4, 2), np.int64)


def test_what_takes_no_choices_says_what_does(capsys):
    gymnasium.register("Match-v0", Match)
    try:
        for algorithm in ("dqn", "sac"):
            words = ["train", algorithm, "--framework", "torch", "--task", "gymnasium/Match-v0"]
            assert cli.main(words) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert line.startswith(f"tiebreak: {algorithm} needs ")
            assert line.endswith(" use ppo")
    finally:
        del gymnasium.registry["Match-v0"]
