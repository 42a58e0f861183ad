"""The Gymnasium engine against loops by hand and Gymnasium's own vector environment."""

from __future__ import annotations

import sys

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tiebreak import make_env
from tiebreak.core import user_modules
from tiebreak.core.errors import MissingDependency, UsageError
from tiebreak.core.seeding import derive


class Count(gymnasium.Env):
    """Observes (a random number of the episode, time); ends itself after `length` steps.

    It returns the same array every time, as environments are free to do.
    """

    action_space = spaces.Discrete(3, start=-1)

    def __init__(self, length: int = 1000, dtype: str = "float64"):
        self.length, self.obs = length, np.zeros(2, dtype)
        self.observation_space = spaces.Box(-1e3, 1e3, (2,), np.dtype(dtype).type)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.obs[:] = self.np_random.uniform(), 0
        return self.obs, {}

    def step(self, action):
        assert action in (-1, 0, 1)
        self.obs[1] += 1
        return self.obs, 10 * action + self.obs[1], bool(self.obs[1] >= self.length), False, {}


class Odd(gymnasium.Env):
    """Spaces outside what is supported."""

    def __init__(self, observation_space=None, action_space=None):
        self.observation_space = observation_space or spaces.Box(-1, 1, (2,))
        self.action_space = action_space or spaces.Discrete(2)


@pytest.fixture(autouse=True)
def registered():
    before = dict(gymnasium.registry)
    register = gymnasium.register
    register("Cut-v0", Count, max_episode_steps=3)
    register("End-v0", Count, kwargs={"length": 3})
    register("Both-v0", Count, max_episode_steps=3, kwargs={"length": 3})
    register("OddText-v0", Odd, kwargs={"observation_space": spaces.Text(3)})
    register("OddMulti-v0", Odd, kwargs={"action_space": spaces.MultiBinary(3)})
    register("OddInf-v0", Odd, kwargs={"action_space": spaces.Box(-np.inf, np.inf, (2,))})
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


def by_hand(name, num_envs, seed, actions):
    """One environment at a time, as the documentation of EnvStep says it: [T, N] per field."""
    columns = []
    for i in range(num_envs):
        env = gymnasium.make(name)
        env.reset(seed=derive(seed, "env", i))
        rows = []
        for action in actions[:, i]:
            final_obs, reward, terminated, truncated, _ = env.step(action)
            obs = final_obs = final_obs.astype(np.float32)
            if terminated or truncated:
                obs = env.reset()[0].astype(np.float32)
            rows.append(
                (obs, np.float32(reward), terminated, truncated and not terminated, final_obs)
            )
        columns.append([np.stack(field) for field in zip(*rows, strict=True)])
    return [np.stack(field, axis=1) for field in zip(*columns, strict=True)]


def rollout(env, actions):
    env.reset()
    steps = [env.step(action) for action in actions]
    return [np.stack(field) for field in zip(*steps, strict=True)]


def assert_same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["Cut-v0", "End-v0", "Both-v0"])
def test_ends_of_episodes_are_told_apart_and_keep_their_observation(name):
    actions = np.random.default_rng(0).integers(3, size=(8, 2))
    obs, reward, terminated, truncated, final_obs = ours = rollout(
        make_env(f"gymnasium/{name}", 2, seed=5), actions
    )
    assert_same(ours, by_hand(name, 2, 5, actions - 1))
    ends = np.arange(8) % 3 == 2
    assert ((ends & (name != "Cut-v0")) == terminated.T).all()
    assert ((ends & (name == "Cut-v0")) == truncated.T).all()
    assert (np.arange(8) % 3 + 1 == final_obs[..., 1].T).all()
    assert ((np.arange(8) + 1) % 3 == obs[..., 1].T).all()
    np.testing.assert_array_equal(obs[~ends], final_obs[~ends])
    assert (reward == 10 * (actions - 1) + final_obs[..., 1]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_returned_is_no_memory_of_the_environment(dtype):
    """An array that has our type already is copied, too: the environment writes to it again."""
    gymnasium.register("Reused-v0", Count, kwargs={"length": 3, "dtype": dtype})
    env = make_env("gymnasium/Reused-v0", 2, seed=5)
    steps = [env.reset()]
    for _ in range(4):
        out = env.step(np.ones(2, int))
        steps += [out.obs, out.final_obs]
    times = [step[:, 1].tolist() for step in steps]
    assert [one for one, two in times if one == two] == [0, 1, 1, 2, 2, 0, 3, 1, 1]


@pytest.mark.parametrize("name", ["CartPole-v1", "HalfCheetah-v4", "Hopper-v5"])
def test_same_trajectories_as_gymnasium_s_own_vector_environment(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo leaves a log of warnings behind
    env = make_env(f"gymnasium/{name}", 3, seed=1)
    vector = SyncVectorEnv(
        [lambda: gymnasium.make(name)] * 3, autoreset_mode=AutoresetMode.SAME_STEP
    )
    vector.action_space.seed(0)
    first = vector.reset(seed=[derive(1, "env", i) for i in range(3)])[0]
    np.testing.assert_array_equal(env.reset(), first.astype(np.float32))
    ended = 0
    for _ in range(60):
        action = vector.action_space.sample()
        obs, reward, terminated, truncated, infos = vector.step(action)
        final_obs = obs.copy()
        for i in np.flatnonzero(terminated | truncated):
            final_obs[i], ended = infos["final_obs"][i], ended + 1
        theirs = obs, reward, terminated, truncated, final_obs
        f32 = [x if x.dtype == np.bool_ else x.astype(np.float32) for x in theirs]
        assert_same(env.step(action), f32)
    assert ended > 0 or name == "HalfCheetah-v4"


def test_a_user_s_own_module_in_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "my_tasks_of_test.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('Mine-v0', 'gymnasium.envs.classic_control:PendulumEnv')\n"
    )
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    env = make_env("gymnasium/my_tasks_of_test:Mine-v0", 2, 0)
    assert sys.path == path
    sys.modules.pop("my_tasks_of_test")
    assert env.spec.action_low == (-2.0,)
    assert env.reset().shape == (2, 3)
    with pytest.raises(UsageError, match="did you mean 'gymnasium/json:Mine-v0'"):
        make_env("gymnasium/json:Mine-v1", 1, 0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("HalfCheeta-v4", "unknown task .* did you mean 'gymnasium/HalfCheetah-v4'"),
        ("HalfCheetah", "did you mean 'gymnasium/HalfCheetah-v"),
        ("HalfCheetah-v3", "cannot run here: .*gymnasium-robotics"),
        ("no_such_module:Foo-v0", "importing 'no_such_module' failed"),
        ("OddText-v0", "observations Text.*supported: Box obs.*TransformObservation"),
        ("OddMulti-v0", "actions MultiBinary.*supported: Box obs.*TransformAction"),
        ("OddInf-v0", "unbounded actions.*RescaleAction"),
    ],
)
def test_wrong_names_and_spaces_are_one_clear_line(name, message):
    with pytest.raises(UsageError, match=message) as caught:
        make_env(f"gymnasium/{name}", 2, 0)
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_named():
    def needs_more():
        import no_such_package

        return no_such_package

    gymnasium.register("Needy-v0", needs_more)
    with pytest.raises(MissingDependency, match=r"gymnasium/Needy-v0': .*no_such_package"):
        make_env("gymnasium/Needy-v0", 1, 0)


def test_nothing_is_printed_and_no_log_is_left(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    env = make_env("gymnasium/HalfCheetah-v4", 2, 0)
    env.reset()
    env.step(np.zeros((2, 6), np.float32))
    env.close()
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_the_list_of_tasks_holds_what_can_work():
    from tiebreak.envs import gymnasium_engine

    listed = gymnasium_engine.tasks()
    assert {"CartPole-v1", "HalfCheetah-v4", "HalfCheetah-v5", "Cut-v0"} <= set(listed)
    assert not {"HalfCheetah-v3", "FrozenLake-v1"} & set(listed)


FLAT = """
import gymnasium, numpy as np
class Grid(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        import helper_of_test
        return helper_of_test.start(), {}
    def step(self, action):
        return np.zeros(3, np.float32), 1.0, False, False, {}
"""


@pytest.mark.parametrize(
    "entry", ["'flat_of_test:Grid'", "lambda: __import__('flat_of_test').Grid()"]
)
def test_an_environment_in_several_files_of_the_working_folder(tmp_path, monkeypatch, entry):
    (tmp_path / "flat_of_test.py").write_text(FLAT)
    (tmp_path / "helper_of_test.py").write_text(
        "import numpy\ndef start():\n    return numpy.ones(3, numpy.float32)\n"
    )
    (tmp_path / "names_of_test.py").write_text(
        f"import gymnasium\ngymnasium.register('Flat-v0', {entry})\n"
    )
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    try:
        env = make_env("gymnasium/names_of_test:Flat-v0", 2, 0)
        assert env.reset().tolist() == [[1.0] * 3] * 2
    finally:
        for module in ("flat_of_test", "helper_of_test", "names_of_test"):
            sys.modules.pop(module, None)
        gymnasium.registry.pop("Flat-v0", None)
    assert sys.path == path


def test_workers_find_modules_where_the_command_was_started(tmp_path, monkeypatch):
    (tmp_path / "elsewhere_of_test.py").write_text("import gymnasium\n")
    monkeypatch.setenv(user_modules.FOLDER, str(tmp_path))
    assert user_modules.import_module("elsewhere_of_test").__file__.startswith(str(tmp_path))
    sys.modules.pop("elsewhere_of_test")


class Simple(gymnasium.Env):
    """Three steps, each with what `given` says; keeps the actions that it was given."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (2,), np.float32)
    reward = 1.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.actions = []
        return np.ones(2, np.float32), {}

    def step(self, action):
        self.actions.append(np.array(action))
        action *= 2.0  # in place, as environments may
        np.clip(action, -1, 1, out=action)
        return np.ones(2, np.float32), self.reward, False, False, {}


def simple(name, **attributes):
    gymnasium.register(f"{name}-v0", type(name, (Simple,), attributes))
    return make_env(f"gymnasium/{name}-v0", 2, 0)


def test_an_environment_may_write_to_its_action_and_changes_no_other_s():
    env = simple("Inplace")
    env.reset()
    action = np.full((2, 2), 0.25, np.float32)
    action.flags.writeable = False  # as JAX's arrays are
    for _ in range(2):
        env.step(action)
    for one in env._envs:
        assert np.array(one.unwrapped.actions).tolist() == [[0.25, 0.25]] * 2
    assert action[0, 0] == 0.25


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(-0.7, 0.4, np.float32), (-10.0, 0.6, np.float32), (0.1, 0.3, np.float64)],
)
def test_actions_stay_inside_the_box_in_its_own_type(low, high, dtype):
    box = spaces.Box(np.array([low], dtype), np.array([high], dtype), dtype=dtype)
    env = simple(f"Box{str(low).replace('.', '').replace('-', 'm')}", action_space=box)
    env.reset()
    above = np.nextafter(np.float32(high), np.float32(9), dtype=np.float32)
    below = np.nextafter(np.float32(low), np.float32(-99), dtype=np.float32)
    env.step(np.array([[above], [below]], np.float32))
    env.step(np.array([[np.inf], [-np.inf]], np.float32))
    for one, bound in zip(env._envs, (box.high, box.low), strict=True):
        assert all(box.contains(action) for action in one.unwrapped.actions)
        assert np.array(one.unwrapped.actions).tolist() == [bound.tolist()] * 2


@pytest.mark.parametrize(
    ("space", "nvec"),
    [
        (spaces.MultiDiscrete([2, 3], start=[0, -1]), (2, 3)),
        (spaces.MultiDiscrete([[2, 3], [4, 5]], dtype=np.int32), (2, 3, 4, 5)),
    ],
)
def test_choices_are_counted_from_their_start_in_the_shape_of_the_space(space, nvec):
    env = simple(f"Multi{len(nvec)}", action_space=space)
    assert (env.spec.nvec, env.spec.action_shape, env.spec.action_size) == (
        nvec, (len(nvec),), sum(nvec),
    )  # fmt: skip
    env.reset()
    actions = np.stack([np.zeros(len(nvec), np.int32), np.array(nvec, np.int32) - 1])
    for one in env._envs:
        one.unwrapped.step = lambda action, env=one.unwrapped: (
            env.actions.append(action) or (np.ones(2, np.float32), 1.0, False, False, {})
        )
    env.step(actions)
    lowest, highest = (one.unwrapped.actions[0] for one in env._envs)
    assert space.contains(lowest)
    assert space.contains(highest)
    assert (lowest.ravel() == space.start.ravel()).all()
    assert (highest.ravel() == (space.start + space.nvec - 1).ravel()).all()


@pytest.mark.parametrize(("bound", "dtype"), [(3.4e38, np.float32), (1e100, np.float64)])
def test_bounds_too_far_apart_for_float32_are_refused(bound, dtype):
    with pytest.raises(UsageError, match=r"further apart than float32 can hold.*RescaleAction"):
        simple(f"Far{np.dtype(dtype)}", action_space=spaces.Box(-bound, bound, (1,), dtype))


@pytest.mark.parametrize("reward", [1.0, 1, True, np.float64(1), np.array([1.0]), np.array(1)])
def test_a_reward_is_one_number_however_it_is_wrapped(reward):
    env = simple(f"Reward{type(reward).__name__}{np.ndim(reward)}", reward=reward)
    env.reset()
    assert env.step(np.zeros((2, 2), np.float32)).reward.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("reward", [np.zeros(2), None, "1x", {}])
def test_a_reward_that_is_no_number_is_named(reward):
    env = simple(f"Odd{type(reward).__name__}", reward=reward)
    env.reset()
    with pytest.raises(UsageError, match=r"an environment's reward is .*: one number is needed"):
        env.step(np.zeros((2, 2), np.float32))


def test_a_close_that_raises_is_said_and_closes_the_others():
    closed = []

    def close(self):
        closed.append(self)
        raise AttributeError("no viewer")

    env = simple("Viewer", close=close)
    with pytest.warns(UserWarning, match="no viewer"):
        env.close()
    assert len(closed) == 2


def test_environments_that_were_made_are_closed_when_a_later_one_cannot_be():
    closed = []

    class Scarce(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)
        made = 0

        def __init__(self):
            Scarce.made += 1
            if Scarce.made > 2:
                raise gymnasium.error.Error("no more of them")

        def close(self):
            closed.append(self)
            raise OSError("a close that fails must not hide the reason")

    gymnasium.register("Scarce-v0", Scarce)
    with pytest.raises(UsageError, match="no more of them"):
        make_env("gymnasium/Scarce-v0", 4, 0)
    assert len(closed) == 2
