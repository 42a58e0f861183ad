"""A folder for what can be computed again: certificates, how long runs take, compiled programs.

It is below XDG_CACHE_HOME or ~/.cache. Whatever goes wrong with it is as if it were empty.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiebreak.core.files import read_json_or_empty, write_json


def cache_folder() -> Path:
    """Return the folder; it may not exist, and for a user without a home it cannot."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):
        return Path(base) / "tiebreak"
    try:
        return Path.home() / ".cache" / "tiebreak"
    except RuntimeError:  # neither HOME nor an entry in the list of users, as in containers
        return Path(os.devnull) / "tiebreak"


def keep_compiled_programs() -> None:
    """Let compilers of this process, and of its children, keep programs for later ones.

    Sets environment variables, but none that its user has set, and has to be called before a
    framework is imported. Commands that train or act call it; nothing that is timed does, and no
    function of the Python interface.
    """
    folder = cache_folder() / "programs" / _cpu_kind()
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder / "inductor"))
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "jax"))
        # JAX keeps what took a second: of a small training, which starts in five, next to nothing.
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


def _cpu_kind() -> str:
    """Return a name for this kind of CPU: a home folder may be shared by several machines.

    A program that was compiled for instructions which a CPU lacks would crash there.
    """
    flags = b""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
        flags = next((line for line in lines if line.startswith((b"flags", b"Features"))), b"")
    return f"{platform.machine()}-{hashlib.sha256(flags).hexdigest()[:8]}"


def read_cached(path: Path) -> dict[str, Any]:
    """Return a JSON object that `write_cached` wrote; empty if there is no readable one."""
    return read_json_or_empty(path)


def write_cached(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object, whole or not at all; do nothing where the folder cannot be written."""
    with contextlib.suppress(OSError):
        write_json(path, value)
