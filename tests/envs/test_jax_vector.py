"""Vectorised environments with new states at each reset: keys as numbers, shared resets."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiebreak.core.types import EnvSpec
from tiebreak.envs.jax_state import dump_tree, load_tree
from tiebreak.envs.jax_vector import VectorEnv

NUM_ENVS, STEPS = 7, 12


class State(NamedTuple):
    luck: jax.Array
    """Number of the episode, drawn."""
    time: jax.Array
    length: jax.Array
    key: jax.Array


class Lucky(VectorEnv):
    """An episode has a random length of 1 to 4 steps; only its luck and time are seen."""

    raw_keys = True

    def __init__(self, num_envs: int, envs_per_reset: int):
        spec = EnvSpec.make(observation_shape=(2,), num_actions=2)
        super().__init__(spec, num_envs, envs_per_reset=envs_per_reset)

    def _reset_one(self, key):
        luck_key, length_key = jax.random.split(key)
        luck = jax.random.uniform(luck_key)
        length = jax.random.randint(length_key, (), 1, 5)
        state = State(luck, jnp.zeros((), jnp.int32), length, key)
        return state, jnp.stack([luck, 0.0])

    def _step_one(self, key, state, action):
        state = state._replace(time=state.time + 1)
        over = state.time >= state.length
        obs = jnp.stack([state.luck, state.time.astype(jnp.float32)])
        # Two kinds of ends, told apart by the length.
        return state, obs, jnp.float32(1.0), over & (state.length < 4), over & (state.length == 4)


def rollout(env: Lucky, key: jax.Array, state=None):
    """Return first observations, states after each step, steps, and the draws."""
    first_state, first = env.reset(key)
    draws = env.draw(jax.random.fold_in(key, 1), STEPS)
    action = jnp.zeros(NUM_ENVS, jnp.int32)

    def body(state, row):
        state, out = env.step(state, action, row)
        return state, (state, out)

    _, (states, steps) = jax.lax.scan(body, first_state if state is None else state, draws)
    return first, states, steps, draws


@pytest.mark.parametrize("envs_per_reset", [1, 3])
def test_episodes_that_end_begin_anew_and_no_other(envs_per_reset):
    env = Lucky(NUM_ENVS, envs_per_reset)
    first, states, steps, draws = jax.jit(lambda key: rollout(env, key))(jax.random.key(3))
    over = np.asarray(steps.terminated | steps.truncated)
    assert over.any(axis=0).all()
    assert not (steps.terminated & steps.truncated).any()
    assert steps.terminated.any()
    assert steps.truncated.any()
    np.testing.assert_array_equal(steps.obs[~over], steps.final_obs[~over])
    assert (steps.final_obs[over][:, 1] > 0).all()
    assert (np.asarray(steps.obs)[over][:, 1] == 0).all()

    # Which state an environment begins in: its own, or its group's.
    owner = np.arange(NUM_ENVS) // envs_per_reset * envs_per_reset
    for t, i in zip(*np.nonzero(over), strict=True):
        if envs_per_reset == 1:
            new, obs = jax.tree.map(lambda x, t=t, i=i: x[t, i], draws.reset)
        else:
            new, obs = env._reset_one(draws.reset[t, owner[i]])
        np.testing.assert_array_equal(steps.obs[t, i], obs)
        np.testing.assert_array_equal(states.key[t, i], new.key)
    lucks = {float(luck) for luck in np.asarray(steps.obs)[over][:, 0]}
    begins = {(t, owner[i]) for t, i in zip(*np.nonzero(over), strict=True)}
    assert len(lucks | set(np.asarray(first[:, 0]).tolist())) == len(begins) + NUM_ENVS


def test_a_step_in_which_nothing_ends_makes_no_state():
    env = Lucky(NUM_ENVS, 3)
    state, _ = env.reset(jax.random.key(0))
    row = jax.tree.map(lambda x: x[0], env.draw(jax.random.key(1), 1))
    program = jax.make_jaxpr(env.step)(state, jnp.zeros(NUM_ENVS, jnp.int32), row)
    assert [eqn.primitive.name for eqn in program.eqns].count("cond") == 1


@pytest.mark.parametrize("impl", [None, "rbg"])
def test_a_state_with_a_key_is_stored_and_goes_on(impl):
    env = Lucky(NUM_ENVS, 3)
    run = jax.jit(lambda key, state=None: rollout(env, key, state))
    key = jax.random.key(5, impl=impl)
    _, states, _, _ = run(key)
    last = jax.tree.map(lambda x: x[-1], states)
    stored = {name: np.array(array) for name, array in dump_tree(last).items()}
    assert all(array.dtype != object for array in stored.values())
    again = load_tree(jax.tree.map(jnp.zeros_like, last), stored)
    for one, two in zip(jax.tree.leaves(run(key, last)[2]), jax.tree.leaves(run(key, again)[2]),
                        strict=True):  # fmt: skip
        np.testing.assert_array_equal(one, two)
