"""The second clock: the kernel's, which stamps what a worker tells at the moment it is told.

A parent that read its own clock on receipt would be late by as long as it had to wait for a CPU,
which on two busy ones is milliseconds, and was more than a hundred.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct

from tiebreak.bench.clock import wall_ns

SO_TIMESTAMPNS = 35
"""Linux; Python does not name it. Elsewhere the time of receipt has to do."""
LONGEST = 4096


class Stamps:
    """When each cell's steady phase began and ended; `fd` is where the worker tells."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with contextlib.suppress(OSError):
            self._ours.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._ours.setblocking(False)
        self._at_ns: dict[tuple[str, str], int] = {}

    @property
    def fd(self) -> int:
        """The worker's end."""
        return self._theirs.fileno()

    def started(self) -> None:
        """The worker has its end; ours of it is closed."""
        self._theirs.close()

    def read(self) -> None:
        """Take in what has arrived; what is no event is let be."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while True:
                data, ancillary, *_ = self._ours.recvmsg(LONGEST, socket.CMSG_SPACE(16))
                if not data:
                    return
                with contextlib.suppress(ValueError, TypeError, KeyError):
                    event = json.loads(data)
                    self._at_ns[str(event["cell_id"]), str(event["when"])] = _stamp(ancillary)

    def steady_s(self, cell_id: str) -> float | None:
        """Seconds from `start` to `end` of a cell's steady phase; None without the two."""
        start, end = (self._at_ns.get((cell_id, when)) for when in ("start", "end"))
        return None if start is None or end is None else (end - start) / 1e9

    def close(self) -> None:
        """Close both ends."""
        self._ours.close()
        self._theirs.close()


def _stamp(ancillary: list) -> int:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = struct.unpack("ll", data[: struct.calcsize("ll")])
            return seconds * 10**9 + nanoseconds
    return wall_ns()
