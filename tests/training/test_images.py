"""Training on images: bytes in replay and rollout, the CNN's settings, a policy that acts."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import tiebreak
from tiebreak import registry
from tiebreak.core.errors import UsageError
from tiebreak.envs.base import make_spec
from tiebreak.loops.base import make_loop


class Beacon(gymnasium.Env):
    """One bright column of a small image; the action that is its side earns 1."""

    observation_space = spaces.Box(0, 255, (2, 6, 5), np.uint8)  # channels first
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._left = 0
        return self._image(), {}

    def step(self, action):
        reward = float(action == self._right)
        self._left += 1
        return self._image(), reward, self._left == 8, False, {}

    def _image(self):
        self._right = int(self.np_random.integers(2))
        image = np.zeros((2, 6, 5), np.uint8)
        image[:, :, 4 * self._right] = 200
        return image


@pytest.fixture(autouse=True)
def task():
    before = dict(gymnasium.registry)
    gymnasium.register("Beacon-v0", Beacon)
    yield "gymnasium/Beacon-v0"
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


SETTINGS = {
    "ppo": {"num_envs": 4, "num_steps": 16, "total_steps": 128},
    "dqn": {
        "num_envs": 4, "num_steps": 1, "num_rounds": 8, "learning_starts": 32, "total_steps": 96,
        "target_every": 8, "replay_size": 64,
    },
    "pqn": {"num_envs": 4, "num_steps": 16, "num_minibatches": 4, "total_steps": 128},
}  # fmt: skip


@pytest.mark.parametrize("algorithm", SETTINGS)
def test_observations_stay_bytes_until_the_agent_takes_them(algorithm, task):
    spec = make_spec(task)
    config = registry.reference_config(algorithm, spec, task)
    network = "norm_cnn" if algorithm == "pqn" else "cnn"
    assert (config.network, config.hidden_sizes, config.activation) == (network, (128,), "relu")
    config = type(config)(**{**vars(config), **SETTINGS[algorithm]})
    loop = make_loop(algorithm, "torch", task, mode="eager", config=config)
    before = loop.agent.dump(loop.state)
    while loop.steps < config.total_steps:
        loop.run()
    kernel = f"{registry.ALGORITHMS[algorithm].greedy.network}/conv/0/kernel"
    assert not np.array_equal(loop.agent.dump(loop.state)[kernel], before[kernel])
    assert loop.collect().obs.dtype == np.uint8
    if algorithm == "dqn":
        stored = loop.ring.dump()
        assert stored["obs"].dtype == stored["next_obs"].dtype == np.uint8
        assert stored["obs"].max() == 200
    loop.close()


def test_a_policy_for_images_acts_after_training(task, tmp_path):
    result = tiebreak.train(
        "ppo", "torch", task, mode="eager", out=tmp_path / "run", overrides=SETTINGS["ppo"],
        eval_episodes=2, progress=False,
    )  # fmt: skip
    assert len(result.returns) == 2
    policy = tiebreak.load_policy(tmp_path / "run")
    images = np.random.default_rng(0).integers(256, size=(3, 6, 5, 2), dtype=np.uint8)
    assert policy.act(images).shape == (3,)
    with pytest.raises(UsageError, match=r"have the shape \(6, 5, 2\)"):
        policy.act(images.transpose(0, 3, 1, 2))


def test_a_policy_of_before_the_setting_is_one_of_dense_layers(task):
    module = registry.config_module("ppo")
    from tiebreak.core.config import from_dict, to_dict

    stored = to_dict(module.Config(num_envs=2))
    del stored["network"]
    assert from_dict(module.Config, stored) == module.Config(num_envs=2, network="mlp")


def test_bytes_are_counted_as_bytes(task):
    from tiebreak.frameworks.replay import required_bytes

    spec = make_spec(task)
    config = registry.reference_config("dqn", spec, task)
    assert required_bytes(spec, config) == config.replay_size * (2 * 60 + 4 + 4 + 2)
