"""Silence messages of MuJoCo and its companions while they load, also in MUJOCO_LOG.TXT."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator


@contextlib.contextmanager
def without_advice() -> Iterator[None]:
    """Suppress MuJoCo's warnings while models load; those of later steps are left alone."""
    import mujoco

    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


@contextlib.contextmanager
def without_greetings() -> Iterator[None]:
    """Suppress what MJX prints when imported (Warp is missing) and what Warp prints later.

    Both go to stdout, where tables and JSON are.
    """
    with contextlib.suppress(ImportError, AttributeError):  # no Warp, or one before 1.14
        import warp

        warp.config.log_level = warp.LOG_WARNING
    with contextlib.redirect_stdout(io.StringIO()):
        yield
