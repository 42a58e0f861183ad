"""Read keys of trackers from `.env` in the working folder; they are in no file and no message."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from tiebreak.core.errors import UsageError

FILE = ".env"
"""`.env.example` in the repository shows what it may hold."""


@contextlib.contextmanager
def variables_of_file(names: Collection[str]) -> Iterator[None]:
    """Set those of the environment variables `names` that `.env` has, until the block ends.

    A variable that is set already stays; all else in the file is not used. Raises UsageError for a
    file that cannot be read.
    """
    added = {
        name: value
        for name, value in _read(names).items()
        if value and name in names and name not in os.environ
    }
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _read(names: Collection[str]) -> dict[str, str | None]:
    path = Path(FILE)
    if not names or not path.is_file():
        return {}
    from dotenv import dotenv_values

    try:
        return dotenv_values(path, interpolate=False)
    except (OSError, ValueError) as error:
        # Not with the error's text: a line of the file may be in it.
        raise UsageError(f"cannot read the keys in {FILE!r}: {type(error).__name__}") from None
