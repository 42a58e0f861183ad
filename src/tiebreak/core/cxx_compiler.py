"""Find a C++ compiler; torch.compile needs one on CPU and pip cannot install it."""

from __future__ import annotations

import os
import shutil
import tempfile

COMPILERS = ("g++", "clang++", "c++")

UNQUOTED = "\"'\\"
"""Signs, beside spaces, that torch's Inductor leaves unquoted in the compiler's command."""


def find() -> str | None:
    """Return the path of the C++ compiler that torch's Inductor will use, or None."""
    if chosen := os.environ.get("CXX"):
        return shutil.which(chosen)
    return next(filter(None, map(shutil.which, COMPILERS)), None)


def why_unavailable(mode: str) -> str:
    """Return why a mode that needs a C++ compiler cannot run; empty if it can."""
    if not find():
        return (
            f"mode {mode!r} needs a C++ compiler (g++ or clang++), and none is on the PATH: "
            "install one (apt install g++), or use another mode (torch: 'eager')"
        )
    for folder in (tempfile.gettempdir(), os.environ.get("TORCHINDUCTOR_CACHE_DIR", "")):
        if any(sign.isspace() or sign in UNQUOTED for sign in folder):
            return (
                f"mode {mode!r} compiles in {folder!r}, and torch cannot pass a folder with spaces "
                "or quotes to its compiler: set TMPDIR and TORCHINDUCTOR_CACHE_DIR to others, or "
                "use another mode (torch: 'eager')"
            )
    return ""
