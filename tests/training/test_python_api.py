"""`tiebreak.train` in a user's program: settings as keywords, an environment of one's own."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from training.fakes import CONFIG
from training.recorder import EVENTS
from training.test_training import ASKED, lines

import tiebreak
from tiebreak import cli
from tiebreak.core.errors import UsageError
from tiebreak.envs.task import Task
from tiebreak.training import train as training
from tiebreak.training.trackers import Tracker


class Follow(gymnasium.Env):
    """The reward is the nearness of the action to the observation's first number."""

    observation_space = spaces.Box(-1, 1, (3,), np.float32)
    action_space = spaces.Box(-2, 2, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._observe(), {}

    def step(self, action):
        reward = -abs(float(action[0]) - float(self.shown[0]))
        self.t += 1
        return self._observe(), reward, False, self.t == 10, {}

    def _observe(self):
        self.shown = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        return self.shown


SMALL = {
    "total_steps": 120, "learning_starts": 40, "num_rounds": 20, "batch_size": 8,
    "replay_size": 200, "hidden_sizes": (8,), "mode": "eager", "progress": False,
}  # fmt: skip


def test_sac_in_torch_on_an_environment_of_one_s_own(tmp_path, capsys):
    out = tmp_path / "run"
    run = tiebreak.train(
        "sac", framework="torch", env=Follow, out=out, eval_every=60, eval_episodes=2, **SMALL
    )
    again = run.evaluate(episodes=2)
    file = run.save(tmp_path / "mine.safetensors")

    assert again.returns == run.returns
    assert (again.task, again.mode) == ("gymnasium/Follow()", "eager")
    obs = np.ones((4, 3))
    np.testing.assert_array_equal(tiebreak.load_policy(file).act(obs), run.policy.act(obs))
    assert run.policy is run.policy
    curves = run.curves
    assert curves.greedy.steps.tolist() == [60, 120]
    assert curves.greedy.returns[-1].tolist() == run.returns
    assert curves.exploring.steps[-1] == 120
    assert curves.exploring.returns.shape == curves.exploring.steps.shape

    assert cli.main(["evaluate", str(out)]) == 2
    said = capsys.readouterr().err
    assert "is a function of the Python program that trained on it" in said
    assert said.count("\n") == 1
    asked = {"env": Follow, "out": out, "eval_every": 60, "eval_episodes": 2, **SMALL}
    asked |= {"seed": 1, "total_steps": 240, "resume": True}
    with pytest.raises(UsageError, match=r"other settings.*same tiebreak.train\(.* resume=True$"):
        tiebreak.train("sac", "torch", **asked)


@pytest.mark.slow(share=0.5)
def test_an_environment_of_one_s_own_goes_on_with_more_steps(tmp_path, capsys):
    asked = {"env": Follow, "out": tmp_path / "run", "eval_episodes": 2, **SMALL}
    tiebreak.train("sac", "torch", **asked)
    asked |= {"total_steps": 240, "resume": True, "progress": True}
    run = tiebreak.train("sac", "torch", **asked)
    assert run.steps == 240
    assert "total_steps 120 -> 240" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({}, "give either task='engine/name' or env="),
        ({"task": ASKED[2], "env": Follow}, "give either task="),
        ({"env": Follow()}, "a function that makes an environment is needed"),
        ({"env": lambda: 3}, r"env\(\) returned '?3'?: a gymnasium.Env is needed"),
        ({"env": Follow, "env_processes": 2, "num_envs": 2}, "env_processes is 2: environments of"),
        ({"env": Follow, "eval_evry": 5}, "unknown keyword 'eval_evry'; did you mean 'eval_every'"),
        ({"env": Follow, "gama": 0.9}, "unknown keyword 'gama'; did you mean 'gamma'"),
        (
            {"env": Follow, "gamma": 0.9, "overrides": {"gamma": 0.8}},
            "gamma is given twice: as a keyword and in overrides",
        ),
        ({"env": Follow, "callback": 3}, "callback is 3; it must be a function of"),
        ({"env": Follow, "total_steps": "many"}, "total_steps takes int, got 'many'"),
    ],
)
def test_wrong_keywords_are_one_line(keywords, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=said) as error:
        tiebreak.train("sac", "torch", **{"mode": "eager", **keywords})
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("runs/*"))


def test_an_environment_that_is_returned_twice_is_refused(tmp_path):
    env = Follow()
    with pytest.raises(UsageError, match=r"env\(\) returned an environment that it had returned"):
        tiebreak.train("sac", "torch", env=lambda: env, out=tmp_path / "run", **SMALL)


def test_a_task_is_named_in_several_ways():
    assert str(Task.choose(None, "Pendulum-v1")) == "gymnasium/Pendulum-v1"
    assert Task.choose("gymnax/CartPole-v1", None) == Task("gymnax", "CartPole-v1")
    assert str(Task.choose(None, Follow)) == "gymnasium/Follow()"
    assert str(Task.choose(None, lambda: Follow())) == "gymnasium/env()"
    assert Task.parse("gymnasium/env()").is_function


def train(callback):
    return training.train(*ASKED, out="run", config=CONFIG, callback=callback, progress=False)


def test_a_callback_hears_of_every_line_and_may_end_training(loop, tmp_path):
    heard = []

    def callback(step, line):
        heard.append(line)
        return step < 300

    result = train(callback)
    assert heard == lines(tmp_path / "run")
    assert result.steps == result.stopped_at == heard[-1]["steps"]
    assert 300 <= result.steps < 992
    assert result.returns == [5.0] * 4


def test_a_tracker_may_be_a_callback(loop):
    class Own(Tracker):
        def finish(self, result):
            EVENTS.append(("finish", result["status"]))

    EVENTS.clear()
    assert train(Own()).stopped_at is None
    assert EVENTS == [("finish", "ok")]
