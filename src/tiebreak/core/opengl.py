"""Choose how MuJoCo draws where there is no display: on a GPU or in software, off the screen."""

from __future__ import annotations

import ctypes.util
import os
import sys

ADVICE = (
    "MuJoCo draws without a display by EGL or OSMesa (MUJOCO_GL=egl or osmesa): on Debian and "
    "Ubuntu, apt-get install libegl1 libgl1-mesa-dri, or libosmesa6"
)

LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}
"""Values of MUJOCO_GL, and the libraries that they need, best first."""


def choose_off_screen() -> None:
    """Set MUJOCO_GL for this process, unless it is set or there is a display.

    Call it before anything imports MuJoCo. Only Linux needs it, and where no library is found,
    nothing is set.
    """
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform != "linux" or display or "MUJOCO_GL" in os.environ:
        return
    for name, library in LIBRARIES.items():
        if ctypes.util.find_library(library):
            os.environ["MUJOCO_GL"] = name
            return
