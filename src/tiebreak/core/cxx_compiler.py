"""Find a C++ compiler; torch.compile needs one on CPU and pip cannot install it."""

from __future__ import annotations

import os
import shutil

COMPILERS = ("g++", "clang++", "c++")


def find() -> str | None:
    """Return the path of the C++ compiler that torch's Inductor will use, or None."""
    if chosen := os.environ.get("CXX"):
        return shutil.which(chosen)
    return next(filter(None, map(shutil.which, COMPILERS)), None)


def why_unavailable(mode: str) -> str:
    """Return why a mode that needs a C++ compiler cannot run; empty if there is one."""
    if find():
        return ""
    return (
        f"mode {mode!r} needs a C++ compiler (g++ or clang++), and none is on the PATH: "
        "install one (apt install g++), or use mode 'eager'"
    )
