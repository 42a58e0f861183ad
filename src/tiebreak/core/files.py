"""Write files whole or not at all, hold folders against other processes, and word what fails."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import fnmatch
import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tiebreak.core.errors import UsageError

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
"""Errors of a disk that is full, over its quota, read-only or broken: no fault of the program."""


def describe_disk_error(error: OSError) -> str:
    """Return what failed and why, e.g. `cannot write 'a': No space left on device`."""
    file = f" {str(error.filename)!r}" if error.filename else ""
    return f"cannot write{file}: {error.strerror}"


LARGEST_TEXT = 1 << 20
"""Most bytes of a file of settings or of a suite; the largest of ours has 20 kB."""


def read_small_text(path: Path) -> str:
    """Return the text of a file of UTF-8, with or without a byte order mark.

    Raises UsageError, which says only what it is, for pipes and devices, which may never end, and
    for files above LARGEST_TEXT; OSError and UnicodeDecodeError as usual.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise UsageError("it is a pipe or a device, not a file")
    if status.st_size > LARGEST_TEXT:
        size = f"{status.st_size / 2**20:.1f} MiB"
        raise UsageError(f"it has {size}, and at most {LARGEST_TEXT >> 20} MiB are read")
    return path.read_text(encoding="utf-8-sig")


@contextlib.contextmanager
def hold(folder: str | Path, doing: str) -> Iterator[None]:
    """Make a folder and lock it against other processes, until the block or this process ends.

    Files in it are not locked. A file system that cannot lock folders (NFS) locks nobody out.

    Raises UsageError, with `doing` in it (`training`), if another process holds the lock; OSError
    if the folder cannot be made.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            _lock(handle, folder, doing)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, folder: str | Path, doing: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(
            f"another process is {doing} into {str(folder)!r}: let it end, or use another --out"
        ) from None


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
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a failed write does not say of which file
        raise


def is_leftover(file: str, of: str) -> bool:
    """Return whether `file` is named as what a killed process leaves of `open_atomic(of)`."""
    return fnmatch.fnmatchcase(file, f".{of}.{'[0-9a-f]' * 8}")


def remove_leftovers(folder: Path, *names: str) -> None:
    """Remove what killed processes have left of `open_atomic` for these files (glob patterns).

    Hold the folder, lest another process is still writing.
    """
    with contextlib.suppress(FileNotFoundError):
        for path in list(folder.iterdir()):
            if any(is_leftover(path.name, name) for name in names) and path.is_file():
                path.unlink(missing_ok=True)


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


def read_json_or_empty(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; empty if there is no readable one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
