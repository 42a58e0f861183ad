"""Draw the states of simulators in JAX with MuJoCo's own renderer, on the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np

from tiebreak.envs.base import PICTURE


class MujocoScene:
    """Pictures of one model; the renderer is made for the first of them."""

    def __init__(self, model: mujoco.MjModel):
        self._model, self._data = model, mujoco.MjData(model)
        self._renderer: Any = None
        self._camera = 0 if model.ncam else -1  # the first that the model has, else a free one

    def picture(self, pose: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return [height, width, 3] uint8 for fields of MjData, e.g. `qpos` and `qvel`."""
        if self._renderer is None:
            self._renderer = mujoco.Renderer(self._model, *PICTURE)
        for name, value in pose.items():
            getattr(self._data, name)[...] = value
        mujoco.mj_forward(self._model, self._data)
        self._renderer.update_scene(self._data, camera=self._camera)
        return self._renderer.render()
