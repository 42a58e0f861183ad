"""The gymnax engine against one environment stepped by hand, and against gymnax's own `step`."""

from __future__ import annotations

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax import registration
from gymnax.environments import environment, spaces

from tiebreak import make_env
from tiebreak.core.errors import UsageError
from tiebreak.envs import gymnax_engine, jax_vector

STEPS, NUM_ENVS = 10, 3
LEFT_OUT = ("FrozenLake-misc", "MNISTBandit-bsuite")  # no Box observations; downloads
CONTINUOUS = {
    "Pendulum-v1": (1, 2.0, 200),
    "MountainCarContinuous-v0": (1, 1.0, 999),
    "PointRobot-misc": (2, np.float32(0.1), 100),
    "Reacher-misc": (2, 1.0, 100),
    "Swimmer-misc": (2, 1.0, 500),
}
"""Dimensions, bound and time limit of the actions of each task that has no discrete ones."""


@struct.dataclass
class State(environment.EnvState):
    luck: jax.Array


@struct.dataclass
class Params(environment.EnvParams):
    max_steps_in_episode: int = 1000
    length: int = 1000


class Count(environment.Environment):
    """Observes (a random number of the episode, of the step, time); Python numbers in its state."""

    def __init__(self, **params):
        self._params = Params(**params)

    @property
    def default_params(self):
        return self._params

    def reset_env(self, key, params):
        state = State(time=0, luck=jax.random.uniform(key))
        return jnp.stack([state.luck, 0.0, 0.0]), state

    def step_env(self, key, state, action, params):
        state = State(time=state.time + 1, luck=state.luck)
        obs = jnp.stack([state.luck, jax.random.uniform(key), jnp.float32(state.time)])
        return obs, state, 10 * action + state.time, state.time >= params.length, {}

    def action_space(self, params):
        return spaces.Discrete(3)

    def observation_space(self, params):
        return spaces.Box(-1.0, 1e3, (3,))


class Boxy(Count):
    def action_space(self, params):
        return spaces.Box(-1.0, jnp.inf, (2,))


def offline():
    raise OSError("no network")


@pytest.fixture(autouse=True)
def registered():
    before = dict(registration._registry)
    gymnax.register("Cut-test", lambda: Count(max_steps_in_episode=3))
    gymnax.register("End-test", lambda: Count(length=3))
    gymnax.register("Both-test", lambda: Count(length=3, max_steps_in_episode=3))
    gymnax.register("Boxy-test", Boxy)
    gymnax.register("Offline-test", offline)
    yield
    registration._registry.clear()
    registration._registry.update(before)
    registration.registered_envs[:] = list(before)


def rollout(env, actions, impl=None):
    """The whole rollout as a scan: state types must hold still, ends are handled inside."""
    key = jax.random.key(7, impl=impl)
    state, first = env.reset(key)
    noise = env.draw(key, len(actions))
    steps = jax.lax.scan(lambda s, x: env.step(s, *x), state, (jnp.asarray(actions), noise))[1]
    return first, noise, steps


def by_hand(name, state, actions, step_keys, reset_keys):
    """One environment, gymnax's functions only."""
    env, params = gymnax.make(name)
    rows = []
    for action, step_key, reset_key in zip(actions, step_keys, reset_keys, strict=True):
        final_obs, state, reward, terminated, _ = env.step_env(step_key, state, action, params)
        obs, cut = final_obs, env.is_truncated(state, params)
        if terminated or cut:
            obs, state = env.reset_env(reset_key, params)
        rows.append((obs, reward, terminated, bool(cut) and not bool(terminated), final_obs))
    return [np.stack(field) for field in zip(*rows, strict=True)]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", ["Cut-test", "End-test", "Both-test"])
def test_ends_of_episodes_are_told_apart_and_keep_their_observation(name, late, monkeypatch):
    if late:
        monkeypatch.setattr(jax_vector, "DRAWN_RESET_BYTES", 0)
    env = make_env(f"gymnax/{name}", NUM_ENVS, 0)
    actions = np.random.default_rng(0).integers(3, size=(STEPS, NUM_ENVS))
    _, noise, steps = rollout(env, actions)
    key = jax.random.key(7)
    reset_keys = jax.random.split(jax.random.split(key)[1], (STEPS, NUM_ENVS))
    for i in range(NUM_ENVS):
        state = jax.tree.map(lambda x, i=i: x[i], env.reset(key)[0])
        theirs = by_hand(name, state, actions[:, i], noise.step_key[:, i], reset_keys[:, i])
        for ours, hand in zip(steps, theirs, strict=True):
            np.testing.assert_allclose(ours[:, i], hand, rtol=1e-6)
    ends = np.arange(STEPS) % 3 == 2
    assert (steps.terminated.T == (ends & (name != "Cut-test"))).all()  # noqa: SIM300
    assert (steps.truncated.T == (ends & (name == "Cut-test"))).all()  # noqa: SIM300
    assert [x.dtype for x in steps] == ["float32", "float32", "bool", "bool", "float32"]


@pytest.mark.parametrize("name", ["CartPole-v1", "MountainCarContinuous-v0"])
def test_a_step_that_ends_nothing_is_gymnax_s_own_step(name):
    env, (theirs, params) = make_env(f"gymnax/{name}", NUM_ENVS, 0), gymnax.make(name)
    state, _ = env.reset(jax.random.key(1))
    noise = jax.tree.map(lambda x: x[0], env.draw(jax.random.key(2), 1))
    action = jnp.array([1, 0, 1]) if env.spec.discrete else jnp.array([[0.5], [-0.5], [1.0]])
    ours_state, ours = env.step(state, action, noise)
    obs, their_state, reward, terminated, truncated, info = jax.vmap(theirs.step, (0, 0, 0, None))(
        noise.step_key, state, action, params
    )
    assert not (terminated | truncated).any()
    expected = (obs, reward, terminated, truncated, info["final_observation"])
    assert jax.tree.structure(ours_state) == jax.tree.structure(their_state)
    for a, b in zip(
        (*jax.tree.leaves(ours_state), *ours), (*jax.tree.leaves(their_state), *expected),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_keys_are_everything():
    env = make_env("gymnax/Cut-test", NUM_ENVS, 0)
    actions = np.zeros((STEPS, NUM_ENVS), int)
    first, noise, steps = rollout(env, actions)
    again = rollout(env, actions)
    np.testing.assert_array_equal(steps.obs, again[2].obs)
    assert len(np.unique(first[:, 0])) == NUM_ENVS
    assert len(np.unique(noise.reset[1][..., 0])) == STEPS * NUM_ENVS
    assert len(np.unique(steps.final_obs[..., 1])) == STEPS * NUM_ENVS


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_every_kind_of_key_works(impl):
    env = make_env("gymnax/CartPole-v1", NUM_ENVS, 0)
    steps = rollout(env, np.zeros((40, NUM_ENVS), int), impl)[2]
    assert steps.terminated.any()
    assert np.isfinite(steps.obs).all()


@pytest.mark.slow(share=0.3)
@pytest.mark.parametrize("name", [name for name in gymnax_engine.tasks() if name not in LEFT_OUT])
def test_every_task_keeps_the_contract(name):
    env = make_env(f"gymnax/{name}", NUM_ENVS, 0)
    spec = env.spec
    shape = () if spec.discrete else (spec.action_size,)
    action = jnp.zeros((STEPS, NUM_ENVS, *shape), jnp.int32 if spec.discrete else jnp.float32)
    first, _, steps = jax.eval_shape(lambda a: rollout(env, a), action)
    assert first.shape == (NUM_ENVS, *spec.observation_shape)
    for field, kind in zip(steps, ("float32", "float32", "bool", "bool", "float32"), strict=True):
        assert field.dtype == kind
    for field in (steps.obs, steps.final_obs):
        assert field.shape == (STEPS, *first.shape)
    for field in (steps.reward, steps.terminated, steps.truncated):
        assert field.shape == (STEPS, NUM_ENVS)


@pytest.mark.parametrize(
    "name",
    [pytest.param(k, marks=[pytest.mark.slow] if "misc" in k else []) for k in CONTINUOUS],
)
def test_continuous_tasks_run_into_their_limit_and_on(name):
    env, (size, bound, limit) = make_env(f"gymnax/{name}", NUM_ENVS, 0), CONTINUOUS[name]
    assert (env.spec.action_low, env.spec.action_high) == ((-bound,) * size, (bound,) * size)
    shape = (limit + 5, NUM_ENVS, size)
    actions = np.random.default_rng(0).uniform(-bound, bound, shape).astype(np.float32)
    run = jax.jit(lambda actions: rollout(env, actions))
    first, noise, steps = run(actions)
    assert first.shape == (NUM_ENVS, *env.spec.observation_shape)
    assert all(np.isfinite(field).all() for field in steps)
    over = np.asarray(steps.terminated | steps.truncated)
    assert over.any(axis=0).all()
    assert not (steps.terminated & steps.truncated).any()
    np.testing.assert_array_equal(steps.obs[~over], steps.final_obs[~over])
    assert (steps.obs[over] != steps.final_obs[over]).any(axis=1).all()
    np.testing.assert_array_equal(steps.obs[over], noise.reset[1][over])
    in_time = ~np.asarray(steps.terminated)[:limit].any(axis=0)
    assert (np.asarray(steps.truncated)[limit - 1] == in_time).all()
    assert not np.asarray(steps.truncated)[: limit - 1].any()
    # Actions reach the simulation: the other way round they lead elsewhere.
    other = run(-actions)[2]
    assert (np.asarray(other.final_obs)[1] != np.asarray(steps.final_obs)[1]).any(axis=1).all()


def test_every_continuous_task_is_in_the_table():
    names = [name for name in gymnax_engine.tasks() if name not in LEFT_OUT]
    names = [name for name in names if not name.endswith("-test")]
    found = [name for name in names if not make_env(f"gymnax/{name}").spec.discrete]
    assert set(found) == set(CONTINUOUS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CartPole-v2", "unknown task .* did you mean 'gymnax/CartPole-v1'"),
        ("FrozenLake-misc", "Discrete observations; supported: Box obs"),
        ("Boxy-test", "task 'gymnax/Boxy-test' has unbounded actions; supported: "),
        ("Offline-test", "'gymnax/Offline-test' downloads its data.*no network"),
    ],
)
def test_wrong_names_and_spaces_are_one_clear_line(name, message):
    with pytest.raises(UsageError, match=message):
        make_env(f"gymnax/{name}", 1, 0)


@pytest.mark.parametrize(("name", "is_drawn"), [("CartPole-v1", True), ("Breakout-MinAtar", False)])
def test_large_reset_states_are_not_drawn_for_a_whole_rollout(name, is_drawn):
    """A state and an observation of CartPole have 9 numbers, an image of Breakout 400."""
    env = make_env(f"gymnax/{name}", num_envs=2)
    drawn = env.draw(jax.random.key(0), 3).reset
    if is_drawn:
        assert sum(leaf.nbytes for leaf in jax.tree.leaves(drawn)) == 3 * 2 * 9 * 4
    else:
        assert drawn.shape == (3, 2)
        assert jnp.issubdtype(drawn.dtype, jax.dtypes.prng_key)
