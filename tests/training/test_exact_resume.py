"""2N steps equal N, a kill and N more, bit for bit: every loop, every framework."""

from __future__ import annotations

import io
from dataclasses import replace

import gymnasium
import numpy as np
import pytest

from tiebreak import registry
from tiebreak.envs import gymnasium_state
from tiebreak.envs.base import make_env
from tiebreak.loops.base import make_loop

ON = {
    "num_envs": 3, "num_steps": 8, "total_steps": 480, "num_minibatches": 4, "num_epochs": 2,
    "hidden_sizes": (8,),
}  # fmt: skip
OFF = {
    "num_envs": 3, "num_steps": 2, "num_updates": 2, "num_rounds": 4, "learning_starts": 60,
    "replay_size": 200, "batch_size": 16, "total_steps": 2400, "hidden_sizes": (8,),
}  # fmt: skip
"""The replay is written over several times, and targets are copied, before and after the cut."""
SETTINGS = {"ppo": ON, "dqn": {**OFF, "target_every": 12, "n_step": 3}, "sac": OFF, "td3": OFF}
SETTINGS["pqn"] = ON
SETTINGS["fasttd3"] = {
    **{name: value for name, value in OFF.items() if name != "hidden_sizes"},
    "actor_sizes": (8,), "critic_sizes": (8,), "num_atoms": 11, "v_min": -100.0, "v_max": 0.0,
}  # fmt: skip
SETTINGS["fastsac"] = {**SETTINGS["fasttd3"], "policy_delay": 2}
CARTPOLE, PENDULUM = "gymnax/CartPole-v1", "gymnax/Pendulum-v1"


def slow(*case):
    return pytest.param(*case, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("algorithm", "framework", "mode", "kind", "task"),
    [
        ("dqn", "linen", "jit", "host", "gymnasium/CartPole-v1"),
        slow("dqn", "torch", "eager", "host", CARTPOLE),
        ("ppo", "torch", "eager", "host", "gymnasium/Hopper-v4"),
        slow("ppo", "linen", "jit", "fused", CARTPOLE),
        slow("dqn", "linen", "jit", "fused", CARTPOLE),
        slow("dqn", "nnx", "cached", "fused", CARTPOLE),
        slow("ppo", "nnx", "split", "fused", CARTPOLE),
        slow("dqn", "nnx", "jit", "host", CARTPOLE),
        slow("dqn", "equinox", "flat", "host", "gymnasium/CartPole-v1"),
        slow("dqn", "equinox", "jit", "fused", CARTPOLE),
        slow("ppo", "equinox", "flat", "fused", CARTPOLE),
        slow("ppo", "plain", "jit", "fused", CARTPOLE),
        slow("dqn", "tensorflow", "function", "host", "gymnasium/CartPole-v1"),
        slow("ppo", "tensorflow", "function", "host", CARTPOLE),
        slow("dqn", "torch", "compile", "host", CARTPOLE),
        slow("pqn", "torch", "eager", "host", "gymnasium/CartPole-v1"),
        slow("pqn", "nnx", "split", "fused", CARTPOLE),
        slow("sac", "linen", "jit", "fused", PENDULUM),
        slow("sac", "linen", "jit", "host", "gymnasium/Pendulum-v1"),
        slow("td3", "linen", "jit", "fused", PENDULUM),
        slow("td3", "linen", "jit", "host", PENDULUM),
        slow("fasttd3", "linen", "jit", "fused", PENDULUM),
        slow("fasttd3", "linen", "jit", "host", PENDULUM),
        slow("fasttd3", "torch", "eager", "host", "gymnasium/Pendulum-v1"),
        slow("fastsac", "linen", "jit", "fused", PENDULUM),
        slow("fastsac", "torch", "eager", "host", "gymnasium/Pendulum-v1"),
    ],
)
def test_a_loop_goes_on_as_if_it_had_never_ended(algorithm, framework, mode, kind, task):
    config = registry.reference_config(algorithm, make_env(task).spec)
    config = replace(config, **SETTINGS[algorithm])

    def make():
        options = {"mode": mode, "loop": kind, "config": config, "seed": 5, "chunk": 3}
        return make_loop(algorithm, framework, task, **options)

    def run(loop, iterations):
        end, told = loop.steps + iterations * config.iteration_steps, []
        while loop.steps < end:
            left = (end - loop.steps) // config.iteration_steps
            loop.iterations_per_run = min(loop.iterations_per_run, left)
            progress = loop.runtime.to_numpy(loop.run())
            told.append([float(x) for x in progress[1:]])
        return np.sum(told, axis=0)

    whole, again, file = make(), make(), io.BytesIO()
    run(whole, 10)
    np.savez(file, **whole.dump())
    file.seek(0)
    assert again.load(np.load(file))
    np.testing.assert_array_equal(run(again, 10), run(whole, 10))
    assert whole.updates == again.updates > 0
    one, two = whole.dump(), again.dump()
    assert one.keys() == two.keys()
    for name, want in one.items():
        assert np.asarray(two[name]).dtype == np.asarray(want).dtype, name
        np.testing.assert_array_equal(two[name], want, err_msg=name)
    whole.close()
    again.close()


@pytest.mark.parametrize(
    "name",
    ["CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1", "Acrobot-v1",
     "HalfCheetah-v4", "Ant-v4", "Hopper-v5", "Reacher-v5"],
)  # fmt: skip
@pytest.mark.parametrize("cut", [0, 37])
@pytest.mark.filterwarnings("ignore")
def test_an_environment_goes_on_where_its_snapshot_was_taken(name, cut):
    one, two = gymnasium.make(name), gymnasium.make(name)
    one.action_space.seed(1)
    one.reset(seed=3)
    two.reset(seed=4)
    for _ in range(cut):
        if any(one.step(one.action_space.sample())[2:4]):
            one.reset()
    two.step(one.action_space.sample())
    gymnasium_state.restore(two, gymnasium_state.snapshot(one))
    for _ in range(250):
        action = one.action_space.sample()
        seen, again = (env.step(action) for env in (one, two))
        np.testing.assert_array_equal(again[0], seen[0])
        assert again[0].dtype == seen[0].dtype
        assert again[1:4] == seen[1:4]
        if seen[2] or seen[3]:
            np.testing.assert_array_equal(two.reset()[0], one.reset()[0])


def test_an_environment_that_may_hold_more_has_no_snapshot():
    normalised = gymnasium.wrappers.NormalizeObservation(gymnasium.make("CartPole-v1"))
    assert gymnasium_state.snapshot(normalised) is None

    class Mine(type(gymnasium.make("CartPole-v1").unwrapped)):
        pass

    assert gymnasium_state.snapshot(Mine()) is None
