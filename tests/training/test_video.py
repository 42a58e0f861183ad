"""Videos show the episodes of an evaluation; what cannot be drawn is refused in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import tiebreak
from tiebreak import cli, registry
from tiebreak.core import opengl
from tiebreak.core.errors import UsageError
from tiebreak.training import policy_files, video

pytest.importorskip("gymnasium")
pytest.importorskip("imageio_ffmpeg")
pytest.importorskip("torch")

OWN = """
import gymnasium
import numpy as np


class Own(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (3,))
    action_space = gymnasium.spaces.Box(-2.0, 2.0, (1,))
    metadata = {"render_modes": MODES, "render_fps": 200}

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.low, {}

    def step(self, action):
        return self.observation_space.low, 1.0, False, False, {}

    def render(self):
        RENDER


gymnasium.register("Own-v0", Own, max_episode_steps=30)
"""


def store(folder, task, algorithm="ppo", named=""):
    """Store a policy with initial weights for a task, as trained on the one that is named."""
    env = tiebreak.make_env(task)
    spec = env.spec
    if hasattr(env, "close"):
        env.close()
    config = registry.reference_config(algorithm, spec)
    arrays = registry.data_module(algorithm).initial_weights(spec, config, 0)
    about = {"task": named or task, "framework": "torch", "seed": 3}
    policy_files.save_policy(folder, arrays, algorithm, spec, config, **about)
    return folder


def frames_of(path):
    """Return the pictures of a video, and its frames per second."""
    import imageio_ffmpeg

    reader = imageio_ffmpeg.read_frames(path)
    about = next(reader)
    width, height = about["size"]
    return [np.frombuffer(f, np.uint8).reshape(height, width, 3) for f in reader], about["fps"]


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_a_video_shows_the_episodes_of_the_evaluation(suffix, tmp_path, capsys):
    store(tmp_path, "gymnasium/CartPole-v1")
    out = tmp_path / f"film{suffix}"
    assert cli.main(["video", str(tmp_path), "-o", str(out), "--episodes", "2"]) == 0
    expected = tiebreak.evaluate(tmp_path, mode="eager", episodes=2).returns
    said = capsys.readouterr().out
    assert f"returns: {expected[0]:.2f}, {expected[1]:.2f}" in said
    frames, fps = frames_of(out)
    assert fps == pytest.approx(50)
    assert len(frames) == sum(expected)  # CartPole's reward is 1 for each step
    assert frames[0].shape == (400, 600, 3)
    assert (frames[0] != frames[5]).any()
    assert f"({len(frames)} pictures" in said


def own(folder, monkeypatch, name, render, modes=("rgb_array",)):
    """Write a module with an environment, and return its task."""
    text = OWN.replace("MODES", json.dumps(list(modes))).replace("RENDER", render)
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(folder)
    return f"gymnasium/{name}:Own-v0"


def test_an_environment_of_one_s_own_at_its_own_speed(tmp_path, monkeypatch):
    task = own(tmp_path, monkeypatch, "own_odd", "return np.zeros((31, 45, 3), np.uint8)")
    folder = store(tmp_path / "run", task)
    filmed = video.film(folder)
    assert filmed.path == folder / "policy.mp4"
    assert (filmed.pictures, filmed.fps) == (8, 50)  # every fourth of 30 steps, at 200 a second
    assert filmed.returns == [30]
    frames, _ = frames_of(filmed.path)
    assert frames[0].shape == (32, 46, 3)  # even, for players
    filmed = video.film(folder, tmp_path / "odd.gif", fps=20, max_steps=21)
    assert (filmed.pictures, filmed.fps) == (3, 20)
    assert filmed.returns == [21]
    frames, fps = frames_of(filmed.path)
    assert frames[0].shape == (31, 45, 3)
    assert fps == pytest.approx(20)


@pytest.mark.parametrize(
    ("render", "modes", "message"),
    [
        ("pass", (), "draws no pictures: its render modes are []"),
        ("pass", ("rgb_array",), "render() returns NoneType; needed is an array"),
        ("return np.zeros((8, 8))", ("rgb_array",), "returns an array (8, 8) of float64; needed"),
        ("1 / 0", ("rgb_array",), "render() raised ZeroDivisionError: division by zero"),
    ],
)
def test_an_environment_that_cannot_be_drawn(render, modes, message, tmp_path, monkeypatch):
    name = f"own_{tmp_path.name}"
    folder = store(tmp_path / "run", own(tmp_path, monkeypatch, name, render, modes))
    with pytest.raises(UsageError) as caught:
        video.film(folder)
    assert message in str(caught.value)
    assert [path.name for path in folder.iterdir()] == [policy_files.POLICY]


def test_an_engine_without_pictures_names_those_that_have_them(tmp_path, capsys):
    folder = store(tmp_path, "gymnasium/CartPole-v1", named="gymnax/CartPole-v1")
    assert cli.main(["video", str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    drawing = "gymnasium, xminigrid, brax, playground, dm_control"
    assert f"engine 'gymnax' draws no pictures ({drawing} do)" in line
    assert "--task gymnasium/CartPole-v1" in line
    out = str(tmp_path / "film.gif")
    assert cli.main(["video", str(folder), "--task", "gymnasium/CartPole-v1", "-o", out]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "a.avi"], "-o takes a file that ends in .mp4 or .gif, got 'a.avi'"),
        (["--fps", "0"], "fps is 0; it must be above 0"),
        (["--episodes", "0"], "episodes is 0"),
        (["--eval-max-steps", "0"], "max_steps is 0"),
        (["-o", "/proc/no/a.gif"], "cannot write '/proc/no/a.gif'"),
        (["--task", "gymnasium/Pendulum-v1"], "does not fit 'gymnasium/Pendulum-v1'"),
    ],
)
def test_what_cannot_be_is_one_line(words, message, tmp_path, capsys):
    store(tmp_path, "gymnasium/CartPole-v1")
    assert cli.main(["video", str(tmp_path), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_module_that_only_the_policy_names_is_not_imported(tmp_path, monkeypatch, capsys):
    task = own(tmp_path, monkeypatch, "own_import", "return np.zeros((32, 32, 3), np.uint8)")
    folder = store(tmp_path / "run", task)
    monkeypatch.delitem(sys.modules, "own_import")
    assert cli.main(["video", str(folder)]) == 2
    assert "--allow-import" in capsys.readouterr().err
    assert cli.main(["video", str(folder), "--allow-import"]) == 0


MUJOCO = {
    "gymnasium/HalfCheetah-v4": ("ppo", (480, 480, 3)),
    "dm_control/cartpole-swingup": ("ppo", (480, 640, 3)),
    "brax/inverted_pendulum": ("ppo", (480, 640, 3)),
    "playground/CartpoleBalance": ("ppo", (480, 640, 3)),
}
DRAW = "import mujoco; mujoco.Renderer(mujoco.MjModel.from_xml_string('<mujoco/>')).render()"


def off_screen():
    """Return the environment of a child that draws off the screen; skip if it cannot."""
    names = {"DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL", "PYOPENGL_PLATFORM"}
    clean = {k: v for k, v in os.environ.items() if k not in names}
    code = "from tiebreak.core.opengl import choose_off_screen; choose_off_screen(); " + DRAW
    tried = subprocess.run(
        [sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"MuJoCo cannot draw here: {tried.stderr.splitlines()[-1]}. {opengl.ADVICE}")
    return clean


@pytest.mark.slow(share=0.1)
@pytest.mark.parametrize("task", MUJOCO)
def test_mujoco_draws_off_the_screen(task, tmp_path):
    row = registry.ENGINES[task.partition("/")[0]]
    if missing := registry.missing_packages((*row.packages, "mujoco")):
        pytest.skip(f"{missing} not installed")
    clean = off_screen()
    algorithm, shape = MUJOCO[task]
    store(tmp_path, task, algorithm)
    out = tmp_path / "film.mp4"
    code = "import sys; from tiebreak.cli import main; sys.exit(main(sys.argv[1:]))"
    options = ["-o", str(out), "--fps", "100", "--eval-max-steps", "100"]
    result = subprocess.run(
        [sys.executable, "-c", code, "video", str(tmp_path), *options],
        env=clean, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    frames, fps = frames_of(out)
    assert frames[0].shape == shape
    assert len(frames) > 5
    assert fps == pytest.approx(100)
    assert frames[0].std() > 5  # not one colour
    assert (np.abs(frames[0].astype(int) - frames[-1]) > 20).any()


@pytest.mark.parametrize(
    ("environ", "found", "chosen"),
    [
        ({}, {"EGL", "OSMesa"}, "egl"),
        ({}, {"OSMesa"}, "osmesa"),
        ({}, set(), None),
        ({"DISPLAY": ":0"}, {"EGL"}, None),
        ({"MUJOCO_GL": "glfw"}, {"EGL"}, "glfw"),
    ],
)
def test_mujoco_s_library_is_chosen_only_where_nobody_has(environ, found, chosen, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(opengl.ctypes.util, "find_library", lambda name: name in found or None)
    opengl.choose_off_screen()
    assert os.environ.get("MUJOCO_GL") == chosen
    monkeypatch.delenv("MUJOCO_GL", raising=False)
