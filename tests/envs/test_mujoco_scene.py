"""Pictures of MuJoCo models: of the pose that is given, by the model's first camera."""

from __future__ import annotations

import numpy as np
import pytest

mujoco = pytest.importorskip("mujoco")

from tiebreak.envs.mujoco_scene import MujocoScene  # noqa: E402

MODEL = """
<mujoco>
  <worldbody>
    {camera}
    <body><joint name="slide" type="slide"/><geom size="0.1"/></body>
  </worldbody>
</mujoco>
"""
CAMERA = '<camera name="side" pos="0 -1 0"/>'


class Recorder:
    """Stands in for the renderer, which needs OpenGL: remembers pose and camera."""

    seen: tuple[float, int]

    def __init__(self, model, height, width):
        self._shape = height, width, 3

    def update_scene(self, data, camera):
        Recorder.seen = float(data.xpos[1, 0]), camera

    def render(self):
        return np.zeros(self._shape, np.uint8)


@pytest.mark.parametrize(("camera", "number"), [(CAMERA, 0), ("", -1)])
def test_a_model_without_a_camera_is_seen_by_a_free_one(monkeypatch, camera, number):
    monkeypatch.setattr(mujoco, "Renderer", Recorder)
    model = mujoco.MjModel.from_xml_string(MODEL.format(camera=camera))
    model.jnt_axis[0] = (1, 0, 0)
    picture = MujocoScene(model).picture({"qpos": np.array([0.25]), "qvel": np.array([0.0])})
    assert picture.dtype == np.uint8
    assert Recorder.seen == (0.25, number)
