"""MuJoCo's advice about older model files, kept away from the user and from MUJOCO_LOG.TXT."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def without_advice() -> Iterator[None]:
    """No warnings while models are loaded; those that arise while stepping are left alone."""
    import mujoco

    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)
