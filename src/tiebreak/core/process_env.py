"""Read and set what a process has: CPUs, a parent, environment variables that workers inherit.

Workers get no tokens and no flags that change arithmetic or timing, such as XLA_FLAGS, whoever
started them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

INHERITED = (
    "CC", "CXX", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "SYSTEMROOT",
    "TZ", "VIRTUAL_ENV",
)  # fmt: skip
"""Variables that every worker inherits: compilers, locale, library and executable paths."""


SAFE = ("-P",)
"""Option of Python for every child: the folder that it is started in is not searched for modules.
A user may have a `random.py` or a `torch.py` of their own there."""


PARENT = "TIEBREAK_PARENT"
"""Variable that tells `tiebreak train` the pid of the process whose end is its own."""


@contextlib.contextmanager
def safe_children() -> Iterator[None]:
    """Give children that are started inside, by multiprocessing too, the effect of SAFE."""
    old = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if old is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = old


def inherited_variables(*more: str) -> dict[str, str]:
    """Return those of INHERITED, and of `more`, that are set in this process."""
    return {name: os.environ[name] for name in (*INHERITED, *more) if name in os.environ}


def die_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when its parent, of this pid, ends, however that happens.

    The parent is the thread that has started this process.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)


def affinity() -> list[int]:
    """Return the numbers of the CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
