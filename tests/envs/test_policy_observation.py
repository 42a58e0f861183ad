"""Who sees what is privileged: FastTD3's critics, and no policy of any other algorithm."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from envs.test_jax_simulator import NUM_ENVS, make, rollout, still

from tiebreak import registry
from tiebreak.core.types import EnvSpec
from tiebreak.envs.base import make_env
from tiebreak.envs.policy_observation import VisibleEnv, hide_privileged
from tiebreak.loops.base import make_loop
from tiebreak.loops.evaluate import Evaluator

TASK = "brax/fake"
SEEN, ALL = 3, 5
"""Numbers of an observation of the fake: visible, and with those that are privileged."""


@pytest.fixture
def fake(monkeypatch):
    """A task whose observations have a privileged part, and whose episodes last 6 steps."""

    class Engine:
        @staticmethod
        def make(name, num_envs, seed):
            return make(6, privileged=name == "fake", num_envs=num_envs)

    load = registry.load
    path = registry.ENGINES["brax"].module
    monkeypatch.setattr(registry, "load", lambda name: Engine if name == path else load(name))
    monkeypatch.setattr(registry, "missing_packages", lambda packages: [])


def test_an_algorithm_that_knows_of_no_privilege_gets_the_visible_part(fake):
    for algorithm in registry.ALGORITHMS:
        spec = hide_privileged(make_env(TASK, 2), algorithm).spec
        known = registry.ALGORITHMS[algorithm].privileged
        assert spec.observation_shape == ((ALL,) if known else (SEEN,)), algorithm
        assert spec.visible == (SEEN if known else None), algorithm


def test_a_task_without_privileged_numbers_is_left_alone(fake):
    assert not isinstance(hide_privileged(make_env("brax/plain"), "ppo"), VisibleEnv)
    assert hide_privileged(make_env("brax/plain"), "ppo").spec.observation_shape == (SEEN,)


def test_only_observations_are_cut():
    actions = still() + np.array([0.5, 0.25], np.float32)
    whole, cut = make(6, privileged=True), VisibleEnv(make(6, privileged=True))
    (_, first, theirs), (state, start, ours) = (rollout(env, actions) for env in (whole, cut))
    np.testing.assert_array_equal(start, first[:, :SEEN])
    for name in ("obs", "final_obs"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name)[..., :SEEN])
    for name in ("reward", "terminated", "truncated"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert np.asarray(ours.truncated).any()
    assert cut.failures(state).tolist() == [0] * NUM_ENVS


def test_pictures_are_cut_as_the_rows_of_numbers_that_networks_see():
    class Pictures:
        spec = EnvSpec.make(observation_shape=(2, 3), num_actions=2, visible=4)
        num_envs = 2

        def reset(self, key):
            return (), jnp.arange(12.0).reshape(2, 2, 3)

    _, obs = VisibleEnv(Pictures()).reset(jax.random.key(0))
    np.testing.assert_array_equal(obs, [[0, 1, 2, 3], [6, 7, 8, 9]])


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["fused", "host"])
def test_ppo_trains_and_is_evaluated_on_what_is_visible(fake, loop):
    usual = registry.reference_config("ppo", hide_privileged(make_env(TASK), "ppo").spec)
    config = replace(usual, num_envs=2, num_steps=8, num_minibatches=2, num_epochs=1)
    made = make_loop("ppo", "linen", TASK, loop=loop, config=config, chunk=1)
    made.run()
    assert made.spec.observation_shape == made.obs.shape[1:] == (SEEN,)
    evaluator = Evaluator(
        algorithm="ppo",
        runtime=made.runtime,
        raw_agent=made.raw_agent,
        config=made.config,
        task=TASK,
        episodes=2,
        seed=0,
    )
    assert len(evaluator.returns(made.state)) == 2
