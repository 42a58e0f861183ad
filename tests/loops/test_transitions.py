"""What loops hand to the learner, against episodes that are written out by hand.

Where an episode ends, the next observation is the one before the automatic reset: neither the
first of the next episode, nor the observation that the action was chosen from.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from tiebreak import registry
from tiebreak.algorithms.dqn.config import Config as DQN
from tiebreak.algorithms.ppo.config import Config as PPO
from tiebreak.algorithms.pqn.config import Config as PQN
from tiebreak.algorithms.td3.config import Config as TD3
from tiebreak.core.types import EnvSpec, EnvStep
from tiebreak.envs.base import DeviceEnv, HostEnv
from tiebreak.loops import base

DISCRETE = EnvSpec.make(observation_shape=(2,), num_actions=5)
BOX = EnvSpec.make(observation_shape=(2,), action_low=(2.0,), action_high=(6.0,))

CONFIGS = {
    "ppo": PPO(num_envs=2, num_steps=6, num_minibatches=1, num_epochs=1, hidden_sizes=(4,)),
    "pqn": PQN(num_envs=2, num_steps=6, num_minibatches=1, num_epochs=1, hidden_sizes=(4,)),
    "dqn": DQN(
        num_envs=2, num_steps=6, num_rounds=1, learning_starts=12, replay_size=12, batch_size=4,
        target_every=12, hidden_sizes=(4,),
    ),
    "td3": TD3(
        num_envs=2, num_steps=3, num_rounds=2, learning_starts=12, replay_size=12, batch_size=4,
        hidden_sizes=(4,),
    ),
}  # fmt: skip

OBS = [
    [(0, 0), (0, 0)],
    [(0, 1), (0, 1)],
    [(0, 2), (1, 0)],
    [(1, 0), (1, 1)],
    [(1, 1), (2, 0)],
    [(1, 2), (2, 1)],
]
NEXT_OBS = [
    [(0, 1), (0, 1)],
    [(0, 2), (0, 2)],
    [(0, 3), (1, 1)],
    [(1, 1), (1, 2)],
    [(1, 2), (2, 1)],
    [(1, 3), (2, 2)],
]
TERMINATED = [[False, False]] * 2 + [[True, False]] + [[False, False]] * 2 + [[True, False]]
TRUNCATED = [[False, False], [False, True]] * 3
"""Six steps of both environments of `numbered`."""


def numbered(state: Any, action: Any, xp: Any) -> tuple[Any, EnvStep]:
    """Step two environments whose observations are (episode, steps in it).

    Episodes of the first terminate after three steps, those of the second are cut after two. A
    reward names the observation after its action, and the action.
    """
    episode, length = state
    length = length + 1
    final_obs = xp.stack([episode, length], axis=1).astype(xp.float32)
    ended = length >= xp.asarray([3, 2])
    episode, length = episode + ended, xp.where(ended, 0, length)
    obs = xp.stack([episode, length], axis=1).astype(xp.float32)
    reward = 100 * final_obs[:, 0] + 10 * final_obs[:, 1] + xp.reshape(action, -1)
    first = xp.asarray([True, False])
    out = EnvStep(obs, reward.astype(xp.float32), ended & first, ended & ~first, final_obs)
    return (episode, length), out


class OnDevice(DeviceEnv):
    """`numbered` in JAX."""

    num_envs = 2

    def __init__(self, spec: EnvSpec):
        self.spec = spec

    def reset(self, key):
        zeros = jnp.zeros(2, jnp.int32)
        return (zeros, jnp.zeros_like(zeros)), jnp.zeros((2, 2))

    def draw(self, key, num_steps):
        return jnp.zeros((num_steps, 2))

    def step(self, state, action, noise):
        return numbered(state, action, jnp)


class OnHost(HostEnv):
    """`numbered` in NumPy."""

    num_envs = 2

    def __init__(self, spec: EnvSpec):
        self.spec = spec

    def reset(self):
        self.state = np.zeros(2, int), np.zeros(2, int)
        return np.zeros((2, 2), np.float32)

    def step(self, action):
        self.state, out = numbered(self.state, action, np)
        return out


def make(algorithm: str, kind: str) -> Any:
    """Make a loop: `host`, `bridge` (a host loop over a device environment) or `fused`."""
    config, spec = CONFIGS[algorithm], BOX if algorithm == "td3" else DISCRETE
    runtime = registry.make_runtime("linen", "jit" if kind == "fused" else "eager")
    raw_agent = registry.make_raw_agent(algorithm, spec, config, runtime)
    env: Any = OnHost(spec) if kind == "host" else OnDevice(spec)
    if kind == "fused":
        loop_class = base._loop_class(algorithm, "fused")
        return loop_class(algorithm, runtime, raw_agent, env, config, 0, 1)
    loop_class = base._loop_class(algorithm, "host")
    return loop_class(
        algorithm, runtime, raw_agent, base._on_host(env, runtime, config, 0), config, 0
    )


def check(steps: dict[str, np.ndarray]) -> None:
    """Check six steps [6, 2, …] with the names of `Transition`."""
    np.testing.assert_array_equal(steps["obs"], OBS)
    np.testing.assert_array_equal(steps["next_obs"], NEXT_OBS)
    np.testing.assert_array_equal(steps["terminated"], TERMINATED)
    np.testing.assert_array_equal(steps["truncated"], TRUNCATED)


def of_environment(action: np.ndarray, algorithm: str) -> np.ndarray:
    """Return the environment's actions for the learner's: [2, 6] is [-1, 1] for a box."""
    if algorithm != "td3":
        return action
    assert (np.abs(action) <= 1.0).all()
    return 4.0 + 2.0 * action[..., 0]


@pytest.mark.parametrize("kind", ["host", "bridge", "fused"])
@pytest.mark.parametrize(
    "algorithm", ["ppo", "dqn", pytest.param("pqn", marks=pytest.mark.slow(share=0.3))]
)
def test_a_rollout_holds_each_step_with_its_own_results(algorithm, kind):
    loop = make(algorithm, kind)
    batch = loop.runtime.to_numpy(loop.collect())
    check(batch._asdict())
    named = np.array(NEXT_OBS) @ [100, 10]
    np.testing.assert_array_equal(batch.reward, named + batch.action)
    later = loop.runtime.to_numpy(loop.collect())
    np.testing.assert_array_equal(later.obs[0], [(2, 0), (3, 0)])


@pytest.mark.parametrize("kind", ["host", "bridge", "fused"])
@pytest.mark.parametrize("algorithm", ["dqn", "td3"])
def test_random_actions_fill_the_replay_with_each_step_s_own_results(algorithm, kind):
    loop = make(algorithm, kind)
    assert loop.run().metrics is None
    stored = {
        name.partition("/")[2]: np.asarray(array)
        for name, array in loop.dump().items()
        if name.startswith("replay/")
    }
    assert stored.pop("count") == 12
    steps = {name: array.reshape(6, 2, *array.shape[1:]) for name, array in stored.items()}
    check(steps)
    named = np.array(NEXT_OBS) @ [100, 10]
    action = of_environment(steps["action"], algorithm)
    assert len(np.unique(action)) > 3
    np.testing.assert_allclose(steps["reward"], named + action, rtol=1e-6)
