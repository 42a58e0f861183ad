"""The one thing that a mode can need and pip cannot install: a C++ compiler, for torch.compile."""

from __future__ import annotations

import os
import shutil

COMPILERS = ("g++", "clang++", "c++")


def find() -> str | None:
    """The C++ compiler that torch's Inductor will find; None if it will find none."""
    named = os.environ.get("CXX")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, COMPILERS)), None)


def lacking(framework: str, mode: str) -> str:
    """Why this mode cannot run on a CPU for want of a compiler; empty if it can."""
    if framework != "torch" or mode in ("eager", "cudagraph") or find():
        return ""
    return (
        f"mode {mode!r} needs a C++ compiler (g++ or clang++), and none is on the PATH: "
        "install one (apt install g++), or use mode 'eager'"
    )
