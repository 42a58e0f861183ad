"""A new user's first afternoon, with the commands of README.md, from an environment of one's own.

It takes minutes, and runs with --slow-all or by name alone.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

ENVIRONMENT = '''
"""A point on a line that is to be pushed to the middle."""

import gymnasium
import numpy as np


class Reach(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-3.0, 3.0, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-0.5, 0.5, (1,), np.float32)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.speed = self.np_random.uniform(-1.0, 1.0), 0.0
        return self.seen(), {}

    def step(self, action):
        self.speed = float(np.clip(0.8 * self.speed + action[0], -1.0, 1.0))
        self.place = float(np.clip(self.place + 0.2 * self.speed, -2.0, 2.0))
        return self.seen(), -abs(self.place), False, False, {}

    def seen(self):
        return np.array([self.place, self.speed], np.float32)

    def render(self):
        picture = np.full((64, 160, 3), 255, np.uint8)
        column = int((self.place + 2.0) / 4.0 * 150)
        picture[20:44, column : column + 10] = 0
        return picture


gymnasium.register("Reach-v0", Reach, max_episode_steps=50)
'''
TRAIN = (
    "train sac --framework torch --mode eager --task gymnasium/reach:Reach-v0 "
    "--threads 1 --seeds 3 --jobs 3 --eval-every 500 --eval-episodes 4 --checkpoint-every 500 "
    "--track tensorboard "
    "--set learning_starts=200 --set batch_size=64 --set hidden_sizes=32,32"
)
STEPS, MORE = 1500, 2000
TIEBREAK = [sys.executable, "-c", "import sys; from tiebreak.cli import main; sys.exit(main())"]
WITHOUT_TIEBREAK = """
import sys
sys.modules["tiebreak"] = None  # every import of it fails

import numpy as np
import onnxruntime

from reach import Reach

policy = onnxruntime.InferenceSession(sys.argv[1])
env = Reach()
obs, _ = env.reset(seed=0)
total = 0.0
for _ in range(50):
    (action,) = policy.run(["action"], {"obs": obs[None]})
    obs, reward, *_ = env.step(action[0])
    total += reward
print(total)
"""


def run(folder: Path, *words: str) -> str:
    """Run a command to its end in a folder; return what it printed."""
    result = subprocess.run(
        [*TIEBREAK, *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout


def killed(folder: Path, ready, *words: str) -> None:
    """Start a command, kill it with SIGKILL as soon as `ready()`, and await its agents' end."""
    child = subprocess.Popen(
        [*TIEBREAK, *words], cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL
    )
    while not ready():
        assert child.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    agents = psutil.Process(child.pid).children()
    assert agents
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    _, alive = psutil.wait_procs(agents, timeout=60)
    assert not alive


def scalars(folder: Path) -> set[str]:
    """Return the tags of the scalars in TensorBoard's event files of a run."""
    from tensorboardX.proto.event_pb2 import Event

    tags = set()
    for path in folder.glob("events.out.tfevents.*"):
        data, at = path.read_bytes(), 0
        while at < len(data):  # length, its checksum, the event, its checksum
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += 12 + length + 4
            tags |= {value.tag for value in event.summary.value}
    return tags


def last_steps(folder: Path) -> int:
    """Return the steps of the last evaluation of a run."""
    return json.loads((folder / "eval.jsonl").read_text().splitlines()[-1])["steps"]


@pytest.mark.slow(share=0.0)  # minutes: with --slow-all, or by name
def test_train_look_kill_resume_go_on_film_and_export(tmp_path):
    for package in ("torch", "gymnasium", "tensorboardX", "imageio_ffmpeg", "onnxruntime"):
        pytest.importorskip(package)
    (tmp_path / "reach.py").write_text(ENVIRONMENT)
    runs = [tmp_path / f"runs/reach/agent-00{number}" for number in range(3)]

    def train(steps):
        """Return the words that train three seeds."""
        return [*TRAIN.split(), "--out", "runs/reach", "--set", f"total_steps={steps}"]

    # Three seeds of SAC in torch, all of them killed in the middle and resumed.
    def are_stored():
        return all(any(folder.glob("checkpoints/*")) for folder in runs)

    killed(tmp_path, are_stored, *train(STEPS))
    assert "3 agents, 1,500 steps each" in run(tmp_path, *train(STEPS), "--resume")
    assert [last_steps(folder) for folder in runs] == [STEPS] * 3

    # TensorBoard has the curves, and they can be plotted.
    assert all("eval/return_mean" in scalars(folder) for folder in runs)
    assert " 3 " in run(tmp_path, "plot", "runs/reach", "-o", "curves.svg")
    assert "<svg" in (tmp_path / "curves.svg").read_text()

    # On with more steps.
    run(tmp_path, *train(MORE), "--resume")
    assert [last_steps(folder) for folder in runs] == [MORE] * 3

    # A video, which shows an episode of 50 steps.
    run(tmp_path, "video", "runs/reach/agent-000", "--allow-import", "-o", "reach.gif")
    import imageio_ffmpeg

    assert imageio_ffmpeg.count_frames_and_secs(tmp_path / "reach.gif")[0] == 50

    # The policy as ONNX, where there is no Tiebreak, pushes the point to the middle.
    run(tmp_path, "export", "runs/reach/agent-000", "--to", "onnx", "-o", "reach.onnx")
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TIEBREAK, "reach.onnx"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) > -15, "it has not learned"
    assert np.isfinite(float(result.stdout))
