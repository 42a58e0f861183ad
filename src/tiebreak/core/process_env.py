"""What processes have: their CPUs, and the environment variables that Tiebreak's workers inherit.

Workers get no tokens and no flags that change arithmetic or timing, such as XLA_FLAGS, whoever
started them.
"""

from __future__ import annotations

import os

INHERITED = (
    "CC", "CXX", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "SYSTEMROOT",
    "TZ", "VIRTUAL_ENV",
)  # fmt: skip
"""Variables that every worker inherits: compilers, locale, library and executable paths."""


def inherited_variables(*more: str) -> dict[str, str]:
    """Return those of INHERITED, and of `more`, that are set in this process."""
    return {name: os.environ[name] for name in (*INHERITED, *more) if name in os.environ}


def affinity() -> list[int]:
    """Return the numbers of the CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
