"""The Playground engine: real tasks, which take long to compile, and what is refused at once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("mujoco_playground")

from mujoco_playground._src import mjx_env

from tiebreak import make_env
from tiebreak.core.errors import UsageError
from tiebreak.envs import playground_assets, playground_engine
from tiebreak.envs.base import require_device_for
from tiebreak.envs.playground_assets import Menagerie
from tiebreak.envs.task import Task
from tiebreak.loops.fused_population import make_population

ROBOTS = {"T1JoystickFlatTerrain": (23, 85), "G1JoystickFlatTerrain": (29, 103)}
"""Numbers of an action, and of what a policy sees."""


def steps_of(env, actions):
    key = jax.random.key(7)
    state, _ = env.reset(key)
    return jax.lax.scan(lambda s, x: env.step(s, *x), state, (actions, env.draw(key, len(actions))))


@pytest.mark.slow
@pytest.mark.parametrize("task", ROBOTS)
def test_robots_load_without_a_network_and_critics_see_more(task):
    if len(playground_assets.installed()) < len(playground_assets.PACKAGES):
        pytest.skip("the meshes are not installed")
    env, (actions, visible) = make_env(f"playground/{task}", 2), ROBOTS[task]
    assert isinstance(mjx_env.MENAGERIE_PATH, Menagerie)
    assert (env.spec.action_size, env.spec.visible) == (actions, visible)
    shapes = jax.eval_shape(lambda a: steps_of(env, a)[1], jnp.zeros((3, 2, actions)))
    assert shapes.obs.shape == (3, 2, *env.spec.observation_shape)


@pytest.mark.slow
@pytest.mark.parametrize("task", ROBOTS)
def test_what_critics_see_begins_with_what_a_policy_sees(task):
    if len(playground_assets.installed()) < len(playground_assets.PACKAGES):
        pytest.skip("the meshes are not installed")
    env = make_env(f"playground/{task}")
    obs = jax.jit(env._env.reset)(jax.random.PRNGKey(0)).obs
    state, privileged = np.asarray(obs["state"]), np.asarray(obs["privileged_state"])
    np.testing.assert_array_equal(privileged[: len(state)], state)
    assert env.spec.observation_size == len(privileged)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("T1JoystickFlatTerrain", ("T1JoystickFlatTerrain", "jax", False)),
        ("T1JoystickFlatTerrain@warp", ("T1JoystickFlatTerrain", "warp", False)),
        ("G1JoystickRoughTerrain@pushes", ("G1JoystickRoughTerrain", "jax", True)),
        ("G1JoystickRoughTerrain@warp+pushes", ("G1JoystickRoughTerrain", "warp", True)),
        (
            "BerkeleyHumanoidJoystickFlatTerrain",
            ("BerkeleyHumanoidJoystickFlatTerrain", "jax", True),
        ),
        ("CheetahRun@warp", ("CheetahRun", "warp", True)),
    ],
)
def test_humanoids_are_pushed_where_the_name_says_so(name, parts):
    assert playground_engine.split_name(name) == parts


@pytest.mark.parametrize("pushes", [False, True])
def test_pushes_are_off_in_the_simulator_itself(monkeypatch, pushes):
    made = {}
    monkeypatch.setattr(
        playground_engine.registry,
        "load",
        lambda task, config_overrides: made.update(task=task, changes=config_overrides),
    )
    playground_engine._load.__wrapped__("T1JoystickFlatTerrain", "jax", pushes)
    config = playground_engine.registry.get_default_config(made["task"])
    config.update_from_flattened_dict(made["changes"])  # as Playground does; unknown names raise
    assert config.push_config.enable == pushes
    assert (tuple(config.push_config.magnitude_range) == (0.0, 0.0)) != pushes


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CheetaRun", r"unknown task 'playground/CheetaRun'; did you mean 'playground/CheetahRun'"),
        ("CheetahRun@wrap", r"unknown physics of .* 'wrap'; did you mean 'warp'\? .*jax, warp"),
        ("CheetahRun@pushes", r"unknown physics of 'playground/CheetahRun' 'pushes'"),
        ("T1JoystickFlatTerrain@push", r"did you mean 'pushes'"),
        ("AeroCubeRotateZAxis@warp", "'playground/AeroCubeRotateZAxis' has no choice of physics"),
    ],
)
def test_wrong_names_are_one_clear_line(name, message):
    with pytest.raises(UsageError, match=message):
        make_env(f"playground/{name}")


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="Warp can run here")
def test_warp_without_its_gpu_says_what_to_use_instead():
    with pytest.raises(UsageError, match=r"needs an NVIDIA GPU.*use 'playground/CheetahRun'"):
        make_env("playground/CheetahRun@warp")


@pytest.mark.parametrize("device", ["cpu", "gpu:all", "cuda:all"])
def test_warp_anywhere_but_on_one_gpu_says_where(device):
    task = "playground/CheetahRun@warp"
    with pytest.raises(UsageError, match=rf"--device {device}: use --device gpu and one"):
        require_device_for(Task.parse(task), device)
    require_device_for(Task.parse("playground/CheetahRun"), device)
    for one in ("gpu", "gpu:1", "cuda"):
        require_device_for(Task.parse(task), one)
    with pytest.raises(UsageError, match=r"or 'playground/T1JoystickFlatTerrain@pushes'"):
        require_device_for(Task.parse("playground/T1JoystickFlatTerrain@warp+pushes"), "cpu")
    with pytest.raises(UsageError, match="asked for is a population of agents"):
        make_population("ppo", "linen", task, 2, device="gpu")


def test_a_robot_without_meshes_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr(mjx_env, "MENAGERIE_PATH", tmp_path / "none")
    monkeypatch.setattr(playground_assets, "installed", list)
    with pytest.raises(UsageError, match=r"meshes of 'booster_t1' .*pip install envpool-assets"):
        playground_engine._load.__wrapped__("T1JoystickFlatTerrain", "jax", False)
