"""Environments in processes of their own are the same environments, and fail like them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from multiprocessing import heap, resource_tracker
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from tiebreak import cli, make_env, registry
from tiebreak.bench.machine import contention
from tiebreak.core.config import override
from tiebreak.core.errors import EnvironmentFailed, UsageError
from tiebreak.loops.base import make_loop

MODULE = "tasks_in_processes"
SOURCE = """
import os, time
import gymnasium
import numpy as np
from gymnasium import spaces

class Keeps(gymnasium.Env):
    observation_space = spaces.Box(-1e3, 1e3, (2, 3), np.float32)
    action_space = spaces.Box(-2, 2, (2,), np.float64)
    before = np.zeros(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.before = 0, np.zeros(2)
        return np.full((2, 3), self.np_random.uniform()), {}

    def step(self, action):
        self.steps += 1
        before, self.before = self.before, action
        return np.full((2, 3), self.steps), float(before.sum()), self.steps == 5, False, {}

class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(one + two)

class Fails(Keeps):
    def step(self, action):
        what = round(float(action[0]))
        if what == 1:
            raise ZeroDivisionError("no such action")
        if what == 2:
            raise Odd("does not ", "travel")
        if what == -2:
            os._exit(7)
        return super().step(action)

class Global(Keeps):
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.full((2, 3), np.random.uniform()), {}  # not of its own generator

gymnasium.register("Global-v0", Global)
gymnasium.register("Keeps-v0", Keeps)
gymnasium.register("Fails-v0", Fails)
"""


@pytest.fixture
def own_tasks(tmp_path, monkeypatch):
    """A module of tasks in the folder that the command is started in."""
    (tmp_path / f"{MODULE}.py").write_text(textwrap.dedent(SOURCE))
    monkeypatch.chdir(tmp_path)
    before = dict(gymnasium.registry)
    yield
    sys.modules.pop(MODULE, None)
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


@pytest.fixture
def made():
    """`make_env` whose environments are closed."""
    envs = []

    def make(*args):
        envs.append(make_env(*args))
        return envs[-1]

    yield make
    for env in envs:
        env.close()


def rollout(env, steps, seed=0):
    rng, spec, rows = np.random.default_rng(seed), env.spec, [env.reset()]
    for _ in range(steps):
        if spec.discrete:
            action = rng.integers(spec.action_size, size=env.num_envs, dtype=np.int32)
        else:
            low, high = spec.bounds
            action = rng.uniform(low, high, (env.num_envs, len(low))).astype(np.float32)
        rows += env.step(action)
    return rows


@pytest.mark.parametrize(
    ("task", "num_envs", "processes"),
    [
        ("gymnasium/CartPole-v1", 5, 2),
        ("gymnasium/Hopper-v5", 3, 3),
        ("dm_control/cartpole-swingup", 3, 2),
        (f"gymnasium/{MODULE}:Keeps-v0", 4, 2),
    ],
)
def test_the_same_bits_as_in_one_process(task, num_envs, processes, own_tasks, made):
    one, many = made(task, num_envs, 3), made(task, num_envs, 3, processes)
    assert many.spec == one.spec
    for _ in range(2):  # a reset begins again from the seeds
        for ours, theirs in zip(rollout(many, 60), rollout(one, 60), strict=True):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)


def test_what_was_returned_is_not_written_over(own_tasks, made):
    env = made(f"gymnasium/{MODULE}:Keeps-v0", 2, 0, 2)
    kept = [env.reset(), *env.step(np.ones((2, 2)))]
    frozen = [x.copy() for x in kept]
    rollout(env, 5)
    for ours, theirs in zip(kept, frozen, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("algorithm", "framework"), [("ppo", "linen"), ("sac", "torch")])
def test_training_is_the_same_and_goes_on_exactly(algorithm, framework):
    task = "gymnasium/Pendulum-v1"
    settings = {"num_envs": 4, "num_steps": 8, "hidden_sizes": (8,)}
    if algorithm == "sac":
        settings |= {"learning_starts": 0, "num_rounds": 4, "batch_size": 8, "replay_size": 400}
    modes = {"linen": "jit", "torch": "eager"}

    def make(processes):
        reference = registry.reference_config(algorithm, make_env(task).spec)
        config = override(reference, {**settings, "env_processes": processes})
        return make_loop(algorithm, framework, task, mode=modes[framework], config=config, seed=2)

    loops = make(1), make(2), make(2)
    for loop in loops[:2]:
        loop.run()
    assert loops[2].load(loops[1].dump())
    for loop in loops:
        loop.run()
    one, *others = (loop.agent.dump(loop.state) for loop in loops)
    for other in others:
        for name, want in one.items():
            np.testing.assert_array_equal(other[name], want, err_msg=name)
    for loop in loops:
        loop.close()


def failing(made, actions):
    env = made(f"gymnasium/{MODULE}:Fails-v0", 4, 0, 2)
    env.reset()
    env.step(np.zeros((4, 2)))
    with pytest.raises(EnvironmentFailed) as caught:
        env.step(np.stack([actions, np.zeros(4)], axis=1))
    return caught.value


@pytest.mark.parametrize(
    ("actions", "says"),
    [
        ([0, 0, 0, 1], "environments 2 to 3: ZeroDivisionError: no such action"),
        ([0, 2, 0, 0], "environments 0 to 1: Odd: does not travel"),
    ],
)
def test_an_error_of_an_environment_is_told_with_its_traceback(actions, says, own_tasks, made):
    error = failing(made, actions)
    assert isinstance(error, EnvironmentFailed)
    assert str(error) == says
    assert "in step\n    raise" in error.__notes__[0]


def test_a_process_that_is_gone_is_told(own_tasks, made):
    assert "environments 2 to 3 ended with status 7;" in str(failing(made, [0, 0, -2, 0]))
    env = made(f"gymnasium/{MODULE}:Keeps-v0", 4, 0, 4)
    os.kill(env._processes[1].pid, signal.SIGKILL)
    env._processes[1].join()
    with pytest.raises(EnvironmentFailed, match=r"environment 1 ended with status -9, killed, .*="):
        env.reset()


def test_signals_that_end_a_command_are_not_for_them(own_tasks, made):
    resource_tracker._resource_tracker._stop()  # the first start in a new process
    env = made(f"gymnasium/{MODULE}:Keeps-v0", 2, 0, 2)
    for process in env._processes:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(process.pid, number)
    env.reset()


def test_a_program_that_never_closes_them_ends(tmp_path):
    code = (
        "from tiebreak import make_env\n"
        "if __name__ == '__main__': env = make_env('gymnasium/CartPole-v1', 2, 0, 2)"
    )
    (tmp_path / "main.py").write_text(code)
    subprocess.run([sys.executable, str(tmp_path / "main.py")], timeout=120, check=True)


def test_they_need_no_dev_shm(own_tasks, made, monkeypatch):
    """Containers may lack it, or have it read-only: memory in files there cannot be made."""
    monkeypatch.setattr(heap.Arena, "_dir_candidates", ["/proc/no-such-folder"])
    env = made("gymnasium/CartPole-v1", 2, 0, 2)
    np.testing.assert_array_equal(env.reset(), make_env("gymnasium/CartPole-v1", 2, 0).reset())


def test_none_is_left_after_closing(own_tasks):
    env = make_env(f"gymnasium/{MODULE}:Keeps-v0", 2, 0, 2)
    env.close()
    assert [process.exitcode for process in env._processes] == [0, 0]


def test_the_global_generator_is_seeded_and_each_process_has_its_own(own_tasks, made):
    task = f"gymnasium/{MODULE}:Global-v0"
    first, again, other = (made(task, 2, seed, 2).reset() for seed in (0, 0, 1))
    assert (first == again).all()
    assert first[0, 0, 0] != first[1, 0, 0]
    assert (first != other).all()


def test_a_task_that_only_this_process_knows(own_tasks):
    gymnasium.register("Here-v0", lambda: gymnasium.make("CartPole-v1"))
    with pytest.raises(UsageError, match=r"in a process of its own: unknown task .*module:EnvId"):
        make_env("gymnasium/Here-v0", 2, 0, 2)


@pytest.mark.parametrize(
    ("task", "processes", "says"),
    [
        ("gymnasium/CartPole-v1", 3, "env_processes is 3; valid: 1 to num_envs, which is 2"),
        ("gymnax/CartPole-v1", 2, "engine 'gymnax' shares out .*gymnasium or dm_control"),
        ("envpool/CartPole-v1", 2, "engine 'envpool' shares out"),
        ("gymnasium/NoSuch-v1", 2, "unknown task"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(task, processes, says):
    with pytest.raises(UsageError, match=says):
        make_env(task, 2, 0, processes)


def test_the_command_ends_in_a_line(own_tasks, capsys):
    command = ["train", "ppo", "--framework", "linen", "--mode", "eager", "--out", "run",
               "--task", f"gymnasium/{MODULE}:Fails-v0", "--set", "num_envs=2",
               "--set", "env_processes=2", "--set", "num_steps=64"]  # fmt: skip
    assert cli.main(command) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.match(r"tiebreak: environment [01].*(: Odd: |: Zero|status 7)", said)
    traceback = Path(said.rpartition("the full traceback is in ")[2]).read_text()
    assert "EnvironmentFailed" in traceback


def test_their_cpu_time_is_the_measured_process_s_own(own_tasks, made):
    env = made("gymnasium/HalfCheetah-v4", 2, 0, 2)
    before = contention._own_s()
    here = sum(os.times()[:2])
    rollout(env, 600)
    theirs = contention._own_s() - before - (sum(os.times()[:2]) - here)
    assert theirs > 0.02
