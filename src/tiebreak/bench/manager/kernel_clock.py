"""The second clock: the kernel's, which stamps what a worker tells at the moment it is told.

A parent that read its own clock on receipt would be late by as long as it had to wait for a CPU,
which on two busy ones is milliseconds, and was more than a hundred.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from typing import Any

from tiebreak.bench.worker.clock import wall_ns

SO_TIMESTAMPNS = 35
"""Linux; Python does not name it. Elsewhere the time of receipt has to do."""
LONGEST = 4096
AT_ONCE = 64
"""Messages taken in one reading: a worker may write faster than anyone reads."""

CLOCKS = 0.01, 0.005, 0.001
"""Share, seconds, and seconds for each further turn, by which the second clock and a worker's may
differ: twice and five times what the self-test allows, as a worker that loses its CPU between
telling and timing is honest."""

Event = dict[str, Any]


class Stamps:
    """How long each cell's steady phase was, its turns together; `fd` is where the worker tells."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with contextlib.suppress(OSError):
            self._ours.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._ours.setblocking(False)
        self._start_ns: dict[str, int] = {}
        self._turns_ns: dict[str, list[int]] = {}

    @property
    def fd(self) -> int:
        """The worker's end."""
        return self._theirs.fileno()

    def started(self) -> None:
        """The worker has its end; ours of it is closed."""
        self._theirs.close()

    def fileno(self) -> int:
        """Our end."""
        return self._ours.fileno()

    def answer(self, word: bytes) -> None:
        """Tell the worker, if it is still there."""
        with contextlib.suppress(OSError):
            self._ours.send(word)

    def read(self) -> tuple[list[Event], bool]:
        """Read at most AT_ONCE messages; ignore those that are no events.

        Return the events other than `start` and `end`, and whether more messages may be waiting.
        """
        events: list[Event] = []
        with contextlib.suppress(BlockingIOError, ConnectionError):
            for _ in range(AT_ONCE):
                data, ancillary, *_ = self._ours.recvmsg(LONGEST, socket.CMSG_SPACE(16))
                if not data:
                    return events, False
                events += self._told(data, _stamp(ancillary))
            return events, True
        return events, False

    def _told(self, data: bytes, at_ns: int) -> list[Event]:
        try:
            event = json.loads(data)
            cell_id, when = str(event["cell_id"]), str(event["when"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return []
        if when == "start":
            self._start_ns[cell_id] = at_ns
        elif when == "end" and cell_id in self._start_ns:
            self._turns_ns.setdefault(cell_id, []).append(at_ns - self._start_ns.pop(cell_id))
        return [] if when in ("start", "end") else [event]

    def checked(self, cell_id: str, result: Event) -> Event:
        """A cell's result, with the second clock beside the worker's if it told of its phase."""
        turns_ns = self._turns_ns.get(cell_id)
        return clocks(result, sum(turns_ns) / 1e9, len(turns_ns)) if turns_ns else result

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


def clocks(result: Event, parent_s: float, turns: int = 1) -> Event:
    """A result with the steady phase as the second clock saw it; flagged if the two differ."""
    share, once_s, each_s = CLOCKS
    flags, worker_s = result["flags"], result.get("phases_s", {}).get("steady")
    if isinstance(worker_s, (int, float)):
        allowed_s = share * worker_s + once_s + each_s * (turns - 1)
        if abs(parent_s - worker_s) > allowed_s:
            flags = {**flags, "clock_mismatch": round(parent_s - worker_s, 6)}
    return {**result, "flags": flags, "parent_steady_s": round(parent_s, 6)}
