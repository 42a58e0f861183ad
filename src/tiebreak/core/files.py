"""Write files whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tiebreak.core.errors import UsageError


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write `data` so that a reader sees the old file or the new one, never half of it.

    Text is stored as UTF-8.
    """
    with open_atomic(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """Open a file that becomes `path`, whole, when the block ends without an error.

    It is written beside `path`, synced and renamed; the folder is created. A new file gets the
    permissions that the umask leaves, an old one keeps its own. A symbolic link stays, and the file
    that it names is replaced; a device, a pipe or a socket is written to.
    """
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    mode = _mode(path)
    if mode is not None and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        with open(path, "wb") as file:
            yield file
        return

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            if mode is not None:
                os.fchmod(file.fileno(), stat.S_IMODE(mode))
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _mode(path: Path) -> int | None:
    """Return type and permissions of what lies at `path`; None if nothing does."""
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return None


def refuse_input(output: Path, folders: Iterable[Path]) -> None:
    """Raise UsageError if an output would replace a file of a folder that is read.

    A page that an earlier report has written there may be replaced.
    """
    target = Path(os.path.realpath(output))
    read = {Path(os.path.realpath(folder)) for folder in folders}
    if target.exists() and target.suffix != ".html" and {target, target.parent} & read:
        raise UsageError(
            f"{str(output)!r} is read by this command, and would be replaced: choose another file"
        )


def write_json(path: Path, value: Any) -> None:
    """Atomically write JSON for people to read; ValueError for NaN and infinities."""
    write_atomic(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")
