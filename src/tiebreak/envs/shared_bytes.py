"""Memory that a process shares with the processes that it starts.

`multiprocessing.RawArray` is a file in /dev/shm, which containers may lack or have read-only.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from multiprocessing.reduction import DupFd
from typing import Any


class SharedBytes:
    """Zeros at first, in a file without a name; a process that it is passed to gets a buffer.

    Close it when all processes have been started: `buffer` stays.
    """

    def __init__(self, size: int):
        if hasattr(os, "memfd_create"):
            self._file = os.fdopen(os.memfd_create("tiebreak"), "r+b")
        else:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115, `close` closes it
        self._file.truncate(size)
        self.buffer = mmap.mmap(self._file.fileno(), size)

    def close(self) -> None:
        """Close the file; no further process can be passed it."""
        self._file.close()

    def __reduce__(self) -> Any:
        return _map, (DupFd(self._file.fileno()), len(self.buffer))


def _map(handle: Any, size: int) -> mmap.mmap:
    descriptor = handle.detach()
    try:
        return mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)
