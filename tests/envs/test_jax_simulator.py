"""What brax and Playground have in common, around a simulator that fits on a page."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from tiebreak.core.errors import UsageError
from tiebreak.envs.bridge import BridgeEnv
from tiebreak.envs.jax_simulator import MIN_STARTS, SimulatedEnv, split_physics
from tiebreak.envs.jax_state import dump_tree, load_tree

STEPS, NUM_ENVS = 10, 3
LUCK, NOISE, TIME = range(3)
NEVER = 1000


@struct.dataclass
class State:
    obs: Any
    reward: Any
    done: Any
    info: dict


class Fake:
    """Observes (a random number of the episode, of the step, time); the reward is the action's sum.

    An action above 2 makes what is no number: the first of an observation, the second of the
    reward. Writes into the state's dictionary, like the real ones.
    """

    action_size = 2

    def __init__(self, ends=NEVER, privileged=False, fragile=False):
        self.ends, self.privileged, self.fragile, self.resets = ends, privileged, fragile, 0

    def reset(self, rng):
        self.resets += 1
        rng, key = jax.random.split(rng)
        luck = jax.random.uniform(key)
        if self.fragile:
            luck = jnp.where(luck > 0.5, jnp.nan, luck)
        return State(self.obs(luck, 0.0, 0), 0.0, False, {"rng": rng, "luck": luck, "time": 0})

    def step(self, state, action):
        info = state.info
        info["rng"], key = jax.random.split(info["rng"])
        info["time"] += 1
        noise = jnp.where(action[0] > 2, jnp.nan, jax.random.uniform(key))
        reward = jnp.where(action[1] > 2, jnp.inf, action.sum())
        done = (info["time"] == self.ends).astype(float)
        return State(self.obs(info["luck"], noise, info["time"]), reward, done, info)

    def obs(self, luck, noise, time):
        state = jnp.stack([luck, noise, jnp.float32(time)])
        if not self.privileged:
            return state
        return {"state": state, "privileged_state": jnp.concatenate([state, -state[1:]])}


def make(limit_steps=NEVER, repeat=1, num_envs=NUM_ENVS, **fake):
    return SimulatedEnv(Fake(**fake), num_envs, limit_steps, repeat)


def rollout(env, actions, seed=7, impl=None):
    """As a scan: the types of states must hold still. Last state, first observations, steps."""
    key = jax.random.key(seed, impl=impl)
    state, first = env.reset(key)
    noise = env.draw(jax.random.fold_in(key, 1), len(actions))
    state, steps = jax.lax.scan(
        lambda s, x: env.step(s, *x), state, (jnp.asarray(actions, jnp.float32), noise)
    )
    return state, first, steps


def still(steps=STEPS, num_envs=NUM_ENVS):
    return np.zeros((steps, num_envs, 2), np.float32)


@pytest.mark.parametrize(
    ("ends", "limit_steps", "kind"),
    [(3, NEVER, "terminated"), (NEVER, 3, "truncated"), (3, 3, "terminated")],
)
def test_ends_are_told_apart_and_keep_their_observation(ends, limit_steps, kind):
    env = make(limit_steps, ends=ends)
    state, first, steps = rollout(env, still())
    assert first.shape == (NUM_ENVS, 3)
    assert [x.dtype for x in steps] == ["float32", "float32", "bool", "bool", "float32"]
    over = np.repeat(np.arange(STEPS)[:, None] % 3 == 2, NUM_ENVS, axis=1)
    none = np.zeros_like(over)
    np.testing.assert_array_equal(steps.terminated, over if kind == "terminated" else none)
    np.testing.assert_array_equal(steps.truncated, over if kind == "truncated" else none)
    times = np.arange(STEPS) % 3 + 1
    np.testing.assert_array_equal(steps.final_obs[..., TIME], np.repeat(times[:, None], 3, 1))
    np.testing.assert_array_equal(steps.obs[~over], steps.final_obs[~over])
    assert (steps.obs[over][:, TIME] == 0).all()
    assert np.isin(steps.obs[over][:, LUCK], state.starts.obs[:, LUCK]).all()
    np.testing.assert_array_equal(state.length, [1] * NUM_ENVS)
    assert (env.failures(state) == 0).all()


@pytest.mark.parametrize("what", [0, 1], ids=["observation", "reward"])
@pytest.mark.parametrize("limit_steps", [NEVER, 3])
def test_what_is_no_number_ends_the_episode_and_is_counted(what, limit_steps):
    env, actions = make(limit_steps), still() + 0.5
    actions[2, 0, what] = 3.0
    state, _, steps = rollout(env, actions)
    assert all(np.isfinite(field).all() for field in steps)
    assert steps.terminated[2, 0]
    assert not steps.truncated[2, 0]
    assert steps.terminated.sum() == 1
    assert steps.reward[2, 0] == 0
    np.testing.assert_array_equal(steps.final_obs[2, 0], steps.obs[1, 0])
    assert steps.obs[2, 0, TIME] == 0
    assert steps.reward[3, 0] == 1
    np.testing.assert_array_equal(env.failures(state), [1, 0, 0])


def test_keys_are_everything_and_every_episode_is_another():
    actions = still(200)
    _, first, steps = rollout(make(4), actions)
    np.testing.assert_array_equal(steps.obs, rollout(make(4), actions)[2].obs)
    assert (steps.obs[..., LUCK] != rollout(make(4), actions, seed=8)[2].obs[..., LUCK]).all()
    assert len(np.unique(first[:, LUCK])) == NUM_ENVS
    began = np.asarray(steps.obs)[3::4, :, LUCK]
    assert all(len(np.unique(began[:, i])) > MIN_STARTS / 2 for i in range(NUM_ENVS))
    # Many more episodes than states: those from the same one have noise of their own.
    fresh = np.asarray(steps.final_obs)[4::4, :, NOISE]
    assert len(np.unique(fresh)) == fresh.size > 4 * MIN_STARTS


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_every_kind_of_key_works(impl):
    steps = rollout(make(3), still(), impl=impl)[2]
    assert steps.truncated.any()
    assert np.isfinite(steps.obs).all()


@pytest.mark.parametrize("num_envs", [NUM_ENVS, MIN_STARTS + 8])
def test_resets_run_at_the_start_and_never_in_a_step(num_envs):
    env = make(3, num_envs=num_envs)
    key = jax.random.key(0)
    state, obs = env.reset(key)
    assert state.starts.obs.shape == (max(num_envs, MIN_STARTS), 3)
    np.testing.assert_array_equal(obs, state.starts.obs[:num_envs])
    before = env._env.resets
    noise = jax.tree.map(lambda x: x[0], env.draw(key, 1))
    jax.make_jaxpr(env.step)(state, still(num_envs=num_envs)[0], noise)
    assert env._env.resets == before


def test_a_reset_that_fails_is_not_begun_with():
    state, first, steps = rollout(make(2, fragile=True), still(100))
    assert np.isfinite(first).all()
    assert np.isfinite(state.starts.obs).all()
    assert all(np.isfinite(field).all() for field in steps)
    assert not steps.terminated.any()


def test_a_policy_sees_the_first_part_and_critics_all():
    env = make(3, privileged=True)
    assert (env.spec.observation_shape, env.spec.visible) == ((5,), 3)
    _, _, steps = rollout(env, still())
    np.testing.assert_array_equal(steps.final_obs[..., 3:], -steps.final_obs[..., 1:3])
    assert make().spec.visible is None
    assert make().spec.bounds == ((-1.0, -1.0), (1.0, 1.0))


def test_an_action_is_repeated_and_an_end_in_between_counts():
    actions = still(4) + 0.25
    _, _, steps = rollout(make(repeat=2, ends=3), actions)
    np.testing.assert_array_equal(steps.final_obs[:, 0, TIME], [2, 4, 2, 4])
    np.testing.assert_array_equal(steps.reward[:, 0], [1.0] * 4)
    np.testing.assert_array_equal(steps.terminated[:, 0], [False, True, False, True])


def test_many_agents_at_once_see_what_each_would():
    seeds = jnp.arange(3)
    run = jax.jit(lambda seed: rollout(make(3), still(), seed)[2])
    together = jax.vmap(run)(seeds)
    for i in range(3):
        alone = run(seeds[i])
        for ours, theirs in zip(together, alone, strict=True):
            np.testing.assert_allclose(ours[i], theirs, rtol=1e-6)


def test_states_are_stored_and_taken_back():
    env = make(3)
    state, _, _ = rollout(env, still())
    again = load_tree(env.reset(jax.random.key(0))[0], dump_tree(state))
    jax.tree.map(np.testing.assert_array_equal, again, state)


def test_the_bridge_steps_compiled_once_and_counts_failures():
    class JaxRuntime:
        device = "cpu"
        from_dlpack = staticmethod(lambda array: array)

    bridge = BridgeEnv(make(3), JaxRuntime, 0, 4)
    bridge.reset()
    for action in still() + np.array([3.0, 0.0], np.float32):
        step = bridge.step(jnp.asarray(action))
    assert np.isfinite(step.obs).all()
    assert (np.asarray(bridge.failures()) == STEPS).all()
    assert bridge._step._cache_size() == bridge._draw._cache_size() == 1


def test_physics_are_chosen_in_the_name():
    assert split_physics("brax", "ant", ("a", "b")) == ("ant", "a")
    assert split_physics("brax", "ant@b", ("a", "b")) == ("ant", "b")
    for name in ("ant@c", "ant@"):
        with pytest.raises(UsageError, match=r"unknown physics of 'brax/ant' .*\(valid: a, b\)"):
            split_physics("brax", name, ("a", "b"))
