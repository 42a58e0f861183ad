"""XLand-MiniGrid: ends told apart, its own steps, rulesets of a benchmark, pictures, refusals."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

xminigrid = pytest.importorskip("xminigrid")

from xminigrid import benchmarks  # noqa: E402
from xminigrid.core.constants import TILES_REGISTRY, Colors, Tiles  # noqa: E402
from xminigrid.core.goals import AgentHoldGoal  # noqa: E402
from xminigrid.core.rules import EmptyRule  # noqa: E402

from tiebreak import make_env  # noqa: E402
from tiebreak.core.errors import UsageError  # noqa: E402
from tiebreak.envs import xminigrid_engine  # noqa: E402
from tiebreak.envs.jax_state import dump_tree, load_tree  # noqa: E402

FORWARD, TURN, PICK_UP, PUT_DOWN = 0, 1, 3, 4
SOLUTION = [FORWARD, FORWARD, TURN, FORWARD, FORWARD]
"""From the start of Empty-5x5 to its goal."""
LIMIT = 100
"""Steps of an episode of Empty-5x5."""


def rollout(env, actions):
    """Return first observations, the last state and steps for actions [T, N]."""
    key = jax.random.key(0)

    @jax.jit
    def run(actions):
        state, first = env.reset(key)
        draws = env.draw(key, len(actions))
        state, steps = jax.lax.scan(lambda s, x: env.step(s, *x), state, (actions, draws))
        return first, state, steps

    return run(jnp.asarray(actions, jnp.int32))


def test_goals_terminate_and_limits_truncate():
    env = make_env("xminigrid/MiniGrid-Empty-5x5", 3, 0)
    assert env.spec.observation_shape == (7, 7, 2)
    assert (env.spec.num_actions, env.spec.pixels) == (6, False)
    late = [PUT_DOWN] * (LIMIT - len(SOLUTION)) + SOLUTION
    turning = [TURN] * LIMIT
    first, _, steps = rollout(env, np.stack([SOLUTION * 20, turning, late], axis=1))
    expected = np.zeros((LIMIT, 3), bool)
    expected[4::5, 0] = expected[-1, 2] = True  # the last one at its limit, too
    np.testing.assert_array_equal(steps.terminated, expected)
    expected[:] = False
    expected[-1, 1] = True
    np.testing.assert_array_equal(steps.truncated, expected)
    assert steps.reward[4, 0] == pytest.approx(1 - 0.9 * len(SOLUTION) / LIMIT)
    assert steps.reward[-1, 2] == pytest.approx(0.1)
    over = np.asarray(steps.terminated | steps.truncated)
    assert (steps.obs[over] == first[0]).all()
    solved = np.asarray(steps.terminated)
    assert (steps.final_obs[solved] != first[0]).any(axis=(1, 2, 3)).all()


@pytest.mark.slow(share=0.3)
def test_steps_are_its_own_and_its_state_can_be_stored():
    env = make_env("xminigrid/MiniGrid-DoorKey-5x5", 2, 0)
    actions = np.random.default_rng(1).integers(6, size=(30, 2))
    first, state, steps = rollout(env, actions)
    key = env._split(jax.random.key(0), 2)[0]
    timestep = jax.jit(lambda key: env._env.reset(env._params, key))(key)
    np.testing.assert_array_equal(first[0], timestep.observation)
    step = jax.jit(lambda timestep, action: env._env.step(env._params, timestep, action))
    for action, obs in zip(actions[:, 0], steps.final_obs[:, 0], strict=True):
        timestep = step(timestep, jnp.int32(action))
        np.testing.assert_array_equal(obs, timestep.observation)
        assert not timestep.last(), "the seed solves it: choose another"

    stored = {name: np.array(array) for name, array in dump_tree(state).items()}
    again = load_tree(jax.tree.map(jnp.zeros_like, state), stored)
    for one, two in zip(jax.tree.leaves(state), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.fixture
def benchmark(tmp_path, monkeypatch):
    """Two rulesets: hold a red ball, or a blue key, which lies there beside nothing else."""
    things = [TILES_REGISTRY[Tiles.BALL, Colors.RED], TILES_REGISTRY[Tiles.KEY, Colors.BLUE]]
    rulesets = {
        "goals": jnp.stack([AgentHoldGoal(tile=thing).encode() for thing in things]),
        "rules": jnp.stack([EmptyRule().encode()[None]] * 2),
        "init_tiles": jnp.stack(things)[:, None],
        "num_rules": jnp.zeros(2, jnp.int32),
    }
    benchmarks.save_bz2_pickle(rulesets, str(tmp_path / "trivial_21k"))
    monkeypatch.setattr(benchmarks, "DATA_PATH", str(tmp_path))
    xminigrid_engine._load.cache_clear()
    yield
    xminigrid_engine._load.cache_clear()


def test_every_episode_draws_a_ruleset(benchmark):
    env = make_env("xminigrid/XLand-MiniGrid-R1-9x9@trivial-21k", 16, 0)
    assert env.spec.observation_shape == (5, 5, 2)
    state, _ = env.reset(jax.random.key(0))
    tiles = {tuple(goal[1:3].tolist()) for goal in np.asarray(state.goal_encoding)}
    assert tiles == {(Tiles.BALL, Colors.RED), (Tiles.KEY, Colors.BLUE)}
    for goal, grid in zip(np.asarray(state.goal_encoding), np.asarray(state.grid), strict=True):
        assert (grid == goal[1:3]).all(axis=-1).sum() == 1, "its object lies there"


def test_it_draws_the_whole_grid():
    env = make_env("xminigrid/MiniGrid-Empty-5x5", 2, 0, render=True)
    state, _ = env.reset(jax.random.key(0))
    picture = env.render(state, 1)
    assert (picture.shape, picture.dtype) == ((160, 160, 3), np.uint8)
    assert picture[112:128, 112:128, 1].mean() > 100, "the goal is green"


def test_a_benchmark_that_cannot_be_had_is_one_line(tmp_path, monkeypatch):
    def offline(repo, file):
        raise OSError("no network")

    xminigrid_engine._load.cache_clear()
    monkeypatch.setattr(benchmarks, "DATA_PATH", str(tmp_path))
    monkeypatch.setattr(benchmarks, "_download_from_hf", offline)
    with pytest.raises(UsageError, match=r"downloads the rulesets of 'trivial-21k'.*no network"):
        make_env("xminigrid/XLand-MiniGrid-R1-9x9@trivial-21k")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("MiniGrid-Empty-5x5x", "unknown task .* did you mean 'xminigrid/MiniGrid-Empty-5x5'"),
        ("XLand-MiniGrid-R1-9x9", "no goal without a benchmark: .*R1-9x9@trivial-21k'"),
        ("XLand-MiniGrid-R1-9x9@huge", "unknown benchmark of xminigrid 'huge'"),
        ("MiniGrid-Empty-5x5@trivial-21k", "has its own goal: leave out '@trivial-21k'"),
    ],
)
def test_wrong_names_are_one_clear_line(name, message):
    with pytest.raises(UsageError, match=message) as caught:
        make_env(f"xminigrid/{name}")
    assert "\n" not in str(caught.value)


def test_there_are_44_tasks():
    names = xminigrid_engine.tasks()
    assert len(names) == len(set(names)) == len(xminigrid.registered_environments())
    assert {"MiniGrid-Empty-5x5", "XLand-MiniGrid-R9-25x25@trivial-21k"} <= set(names)


@pytest.mark.slow(share=0.05)
@pytest.mark.parametrize("name", [n for n in xminigrid_engine.tasks() if "@" not in n])
def test_every_task_keeps_the_contract(name):
    env = make_env(f"xminigrid/{name}", 2, 0)
    action = jnp.zeros((3, 2), jnp.int32)
    first, _, steps = jax.eval_shape(lambda action: rollout(env, action), action)
    assert first.shape == (2, *env.spec.observation_shape)
    kinds = ("float32", "float32", "bool", "bool", "float32")
    assert tuple(field.dtype for field in steps) == kinds
