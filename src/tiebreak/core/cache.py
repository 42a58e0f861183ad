"""A folder for what can be computed again: certificates, and how long runs take.

It is below XDG_CACHE_HOME or ~/.cache. Whatever goes wrong with it is as if it were empty.
"""

from __future__ import annotations

import contextlib
import os
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


def read_cached(path: Path) -> dict[str, Any]:
    """Return a JSON object that `write_cached` wrote; empty if there is no readable one."""
    return read_json_or_empty(path)


def write_cached(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object, whole or not at all; do nothing where the folder cannot be written."""
    with contextlib.suppress(OSError):
        write_json(path, value)
