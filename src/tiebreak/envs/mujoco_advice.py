"""What MuJoCo and its companions say unasked, kept away from the user and from MUJOCO_LOG.TXT."""

from __future__ import annotations

import contextlib
import io
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


@contextlib.contextmanager
def without_greetings() -> Iterator[None]:
    """For importing MJX: it prints that Warp is missing, and Warp, later, that it is there.

    Both go to stdout, where tables and JSON are.
    """
    with contextlib.suppress(ImportError, AttributeError):  # no Warp, or one before 1.14
        import warp

        warp.config.log_level = warp.LOG_WARNING
    with contextlib.redirect_stdout(io.StringIO()):
        yield
