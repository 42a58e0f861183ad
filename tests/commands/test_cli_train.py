"""`tiebreak train` and `evaluate` from the command line, on a real task where it is cheap."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from training.fakes import CONFIG, SPEC

from tiebreak import cli, registry
from tiebreak.algorithms.ppo.data import initial_weights
from tiebreak.core.errors import UsageError
from tiebreak.loops.evaluate import GreedyEpisodes
from tiebreak.training import evaluate as evaluating
from tiebreak.training import policy_files
from tiebreak.training.display import Display

TASK = "gymnax/CartPole-v1"
SMALL = ("--set", "total_steps=256", "--set", "num_steps=16", "--set", "hidden_sizes=(8,)")


@pytest.fixture
def train(monkeypatch, tmp_path):
    """Run `tiebreak train ppo`, small, in an empty folder; returns the status."""
    monkeypatch.chdir(tmp_path)

    def command(framework, *more):
        argv = ("train", "ppo", "--framework", framework, "--task", TASK, *SMALL)
        return cli.main([*argv, "--eval-episodes", "3", "--out", "run", *more])

    return command


class Lottery(gymnasium.Env):
    """Rewards come from the global generators of NumPy and Python, as in some users' tasks."""

    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.ones(3, np.float32), {}

    def step(self, action):
        self.steps += 1
        reward = np.random.uniform() + random.uniform(0, 1)  # noqa: NPY002
        return np.ones(3, np.float32), reward, self.steps == 5, False, {}


@pytest.mark.slow
def test_environments_that_use_global_generators_are_seeded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(
        gymnasium.registry, "Lottery-v0", gymnasium.envs.registration.EnvSpec("Lottery-v0", Lottery)
    )

    def returns(seed, out):
        argv = ["train", "ppo", "--framework", "torch", "--mode", "eager", "--seed", seed]
        argv += ["--task", "gymnasium/Lottery-v0", *SMALL, "--set", "total_steps=16"]
        assert cli.main([*argv, "--eval-episodes", "2", "--out", out]) == 0
        return json.loads((tmp_path / out / "result.json").read_text())["returns"]

    first = returns("0", "first")
    assert returns("0", "again") == first
    assert returns("1", "other") != first


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["fused", "host"])
def test_a_small_run_trains_evaluates_and_evaluates_again(train, capsys, loop):
    assert train("linen", "--loop", loop) == 0
    captured = capsys.readouterr()
    assert captured.out.count("\n") in (3, 4)  # with a curve if it took longer than a second
    assert "tiebreak:" not in captured.err
    with open("run/result.json", encoding="utf-8") as file:
        result = json.load(file)
    assert (result["steps"], result["updates"]) == (256, 64)
    assert cli.main(["evaluate", "run", "--episodes", "3", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["returns"] == result["returns"]
    assert cli.main(["evaluate", "run", "--framework", "equinox", "--episodes", "3", "--json"]) == 0
    other = json.loads(capsys.readouterr().out)
    assert (other["framework"], other["returns"]) == ("equinox", result["returns"])


@pytest.mark.slow
def test_ctrl_c_at_the_keyboard(tmp_path):
    argv = ("train", "ppo", "--framework", "linen", "--task", TASK, "--set", "total_steps=1e9")
    code = "import sys; from tiebreak.cli import main; sys.exit(main(sys.argv[1:]))"
    child = subprocess.Popen(
        [sys.executable, "-c", code, *argv, "--out", str(tmp_path / "run")],
        stderr=subprocess.PIPE, text=True,
        # A shell's background job ignores Ctrl-C, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    guard = threading.Timer(120, child.kill)
    guard.start()
    log = tmp_path / "run" / "metrics.jsonl"
    while child.poll() is None and not (log.exists() and log.stat().st_size):
        time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    said = [line for line in child.communicate()[1].splitlines() if line.startswith("tiebreak:")]
    guard.cancel()
    assert child.returncode == 130
    assert len(said) == 1
    assert f"`tiebreak evaluate {tmp_path / 'run'}`" in said[0]
    steps = policy_files.load_policy(tmp_path / "run").metadata["steps"]
    last = log.read_text().splitlines()[-1]
    assert steps == json.loads(last)["steps"]


@pytest.fixture
def policy(tmp_path):
    """A stored policy, trained by nobody."""
    folder = tmp_path / "run"
    arrays = initial_weights(SPEC, CONFIG, 0)
    about = {"task": TASK, "framework": "nnx", "seed": 4}
    policy_files.save_policy(folder, arrays, "ppo", SPEC, CONFIG, **about)
    return folder


@pytest.fixture
def asked(monkeypatch):
    """What evaluation asked of runtime and loop, instead of doing it."""
    seen = {}

    class Runtime:
        def __init__(self, framework, mode, *_):
            seen.update(framework=framework, mode=mode)

        def agent(self, raw):
            return raw

    class Raw:
        @staticmethod
        def load(arrays):
            return arrays

    def evaluate_policy(*, state, task, episodes, seed, **_):
        seen.update(task=str(task), episodes=episodes, seed=seed, arrays=sorted(state))
        return GreedyEpisodes([float(i) for i in range(episodes)], cut=0, limit=10)

    monkeypatch.setattr(registry, "make_runtime", Runtime)
    monkeypatch.setattr(registry, "make_raw_agent", lambda *_: Raw)
    monkeypatch.setattr(evaluating, "evaluate_policy", evaluate_policy)
    return seen


def test_evaluation_repeats_the_training_unless_told_otherwise(policy, asked):
    result = evaluating.evaluate(policy, episodes=3)
    assert asked.pop("arrays") == sorted(initial_weights(SPEC, CONFIG, 0))
    expected = {"framework": "nnx", "mode": "split", "task": TASK, "episodes": 3, "seed": 4}
    assert asked == expected
    assert (result.returns, result.mean, round(result.std, 6)) == ([0.0, 1.0, 2.0], 1.0, 0.816497)
    other = evaluating.evaluate(policy, framework="torch", mode="eager", seed=9)
    assert (asked["framework"], asked["mode"], asked["seed"]) == ("torch", "eager", 9)
    assert other.framework == "torch"


def test_a_task_of_other_shapes_is_refused(policy, asked):
    with pytest.raises(UsageError, match="does not fit 'gymnasium/Pendulum-v1'"):
        evaluating.evaluate(policy, task="gymnasium/Pendulum-v1")


def test_evaluate_prints_mean_and_spread(policy, asked, capsys):
    assert cli.main(["evaluate", str(policy), "--episodes", "3"]) == 0
    assert "mean 1.00 ± 0.82 over 3 episodes" in capsys.readouterr().out


class Screen:
    """A text file that says whether it is a terminal."""

    def __init__(self, terminal):
        self.text, self.terminal = "", terminal

    def write(self, text):
        self.text += text
        return len(text)

    def flush(self):
        pass

    def isatty(self):
        return self.terminal


LINE = {"steps": 500, "mean_return": 9.5, "steps_per_s": 12_345.0}


def test_the_display_is_a_bar_on_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen(terminal=True)
    display = Display("training", 1000, file=screen)
    display.log_metrics(500, LINE)
    display.close()
    assert "50%" in screen.text
    assert "return 9.5 · 12,345 steps/s" in screen.text


def test_the_display_is_a_line_now_and_then_elsewhere(monkeypatch):
    from tiebreak.training import display as display_module

    clock = {"now": 0.0}
    monkeypatch.setattr(display_module.time, "perf_counter", lambda: clock["now"])
    screen = Screen(terminal=False)
    display = Display("training", 1000, file=screen)
    for clock["now"] in (4.0, 9.0, 11.0, 12.0, 22.0):
        mean_return = None if clock["now"] > 20 else 9.5
        display.log_metrics(500, {**LINE, "mean_return": mean_return})
    display.close()
    said = "training: 500 of 1,000 steps · return 9.5 · 12,345 steps/s\n"
    assert screen.text == 2 * said
    silent = Screen(terminal=True)
    Display("training", 1000, shown=False, file=silent).log_metrics(500, LINE)
    assert silent.text == ""


def test_the_display_is_one_line_that_is_overwritten_in_a_notebook(monkeypatch):
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    screen = Screen(terminal=False)
    display = Display("training", 1000, file=screen)
    display.log_metrics(500, LINE)
    display.log_evaluation(500, {"return_mean": 7.0})
    display.log_metrics(510, {**LINE, "steps_per_s": 9.0})
    display.log_note("going well")
    display.log_status("evaluating")
    display.close()
    first, *others = screen.text.split("\r")[1:]
    assert first == "training: 500 of 1,000 steps · return 9.5 · 12,345 steps/s"
    assert others[0].startswith(
        "training: 510 of 1,000 steps · return 9.5 · greedy 7.0 · 9 steps/s"
    )
    assert others[0].endswith("\ntraining: going well\n")
    assert others[1] == "training: evaluating · greedy 7.0\n"
