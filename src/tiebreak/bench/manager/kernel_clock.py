"""Time a worker by the kernel's clock: a socket whose messages are stamped when they are sent.

This second clock checks the worker's own. The manager does not read its clock on receipt, because
it may have to wait for a CPU: for milliseconds, and on busy machines for more than a hundred.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from typing import Any

from tiebreak.bench.clock import wall_ns
from tiebreak.bench.record import Result

SO_TIMESTAMPNS = 35
"""Socket option of Linux that Python does not name; elsewhere the time of receipt is used."""

MESSAGE_BYTES = 4096
AT_ONCE = 64
"""Messages taken in one reading: a worker may write faster than anyone reads."""

RELATIVE, ABSOLUTE_S, PER_TURN_S = 0.01, 0.005, 0.001
"""Allowed difference between the two clocks: a share, seconds, and seconds for each turn after the
first. They are twice and five times what the self-test allows, as an honest worker may lose its CPU
between sending an event and reading its clock."""

Event = dict[str, Any]


class KernelClock:
    """A socket pair over which a worker sends events, and the manager its replies.

    Events are JSON objects with `cell_id` and `when`: `start` and `end` of a turn, which are timed,
    and `ready`, the request for the next turn.
    """

    def __init__(self) -> None:
        self._manager_end, self._worker_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with contextlib.suppress(OSError):
            self._manager_end.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._manager_end.setblocking(False)
        self._start_ns: dict[str, int] = {}
        self._turns_ns: dict[str, list[int]] = {}

    @property
    def worker_fd(self) -> int:
        """File descriptor of the worker's end."""
        return self._worker_end.fileno()

    def fileno(self) -> int:
        """Return the file descriptor of the manager's end."""
        return self._manager_end.fileno()

    def close_worker_end(self) -> None:
        """Close the manager's copy of the worker's end, once the worker has started."""
        self._worker_end.close()

    def reply(self, word: bytes) -> None:
        """Send a reply to the worker, if it still runs."""
        with contextlib.suppress(OSError):
            self._manager_end.send(word)

    def read(self) -> tuple[list[Event], bool]:
        """Read at most AT_ONCE messages; ignore those that are no events.

        Return the events other than `start` and `end`, and whether more messages may be waiting.
        """
        events: list[Event] = []
        with contextlib.suppress(BlockingIOError, ConnectionError):
            for _ in range(AT_ONCE):
                data, ancillary, *_ = self._manager_end.recvmsg(
                    MESSAGE_BYTES, socket.CMSG_SPACE(16)
                )
                if not data:
                    return events, False
                events += self._take(data, _sent_ns(ancillary))
            return events, True
        return events, False

    def _take(self, data: bytes, sent_ns: int) -> list[Event]:
        """Note the start or end of a turn; return any other event."""
        try:
            event = json.loads(data)
            cell_id, when = str(event["cell_id"]), str(event["when"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return []
        if when == "start":
            self._start_ns[cell_id] = sent_ns
            return []
        if when == "end":
            if cell_id in self._start_ns:
                turn_ns = sent_ns - self._start_ns.pop(cell_id)
                self._turns_ns.setdefault(cell_id, []).append(turn_ns)
            return []
        return [event]

    def add_to(self, cell_id: str, result: Result) -> Result:
        """Return a result with this clock's seconds, if the worker sent events for the cell."""
        turns_ns = self._turns_ns.get(cell_id)
        if not turns_ns:
            return result
        return compare_clocks(result, sum(turns_ns) / 1e9, len(turns_ns))

    def close(self) -> None:
        """Close both ends."""
        self._manager_end.close()
        self._worker_end.close()


def _sent_ns(ancillary: list) -> int:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = struct.unpack("ll", data[: struct.calcsize("ll")])
            return seconds * 10**9 + nanoseconds
    return wall_ns()


def compare_clocks(result: Result, parent_s: float, turns: int = 1) -> Result:
    """Return a result with the steady phase by the second clock; flag it if the clocks differ."""
    flags, worker_s = result["flags"], result.get("phases_s", {}).get("steady")
    if isinstance(worker_s, (int, float)):
        allowed_s = RELATIVE * worker_s + ABSOLUTE_S + PER_TURN_S * (turns - 1)
        if abs(parent_s - worker_s) > allowed_s:
            flags = {**flags, "clock_mismatch": round(parent_s - worker_s, 6)}
    return {**result, "flags": flags, "parent_steady_s": round(parent_s, 6)}
