"""Several processes that train one agent together: ranks 0 to count - 1 (decision 0067).

All of them run the same steps. Rank 0 alone evaluates, writes and decides when training ends. What
they exchange goes through a `Ranks` of their array library (frameworks/*/ranks.py).
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from tiebreak.core.errors import UsageError
from tiebreak.core.text import quoted

AUTO = "auto"
"""Addresses are taken from the environment, as a launcher has set them."""
WAIT_S = 1800.0
"""Seconds that a rank waits for the others, e.g. while rank 0 evaluates."""
JOIN_S = 120.0
"""Seconds that a rank waits for the others to begin."""
INTERRUPTED = -1
"""What rank 0 says in place of a number of runs when a signal ends training."""


class Ranks:
    """This process among those that train one agent; the base class is a process alone."""

    rank = 0
    count = 1

    def agree(self, number: int) -> int:
        """Return rank 0's number."""
        return number

    def tell(self, value: Any = None) -> Any:
        """Return rank 0's value, which can be written as JSON."""
        return value

    def gather(self, tree: Any, axis: int) -> Any:
        """Return a tuple of NumPy arrays, joined along an axis in the order of the ranks."""
        return tree

    def gather_all(self, value: Any) -> list[Any]:
        """Return a value of each rank, in their order."""
        return [value]

    def mean(self, tensors: Any) -> Any:
        """Return the mean over all ranks of each of a list of tensors."""
        return tensors

    def part(self, tree: Any, axis: int) -> Any:
        """Return this rank's equal part, along an axis, of every array of a tree of tuples."""
        if self.count == 1:
            return tree
        if isinstance(tree, tuple):
            branches = [self.part(branch, axis) for branch in tree]
            return type(tree)(*branches) if hasattr(tree, "_fields") else tuple(branches)
        size = tree.shape[axis] // self.count
        own = slice(self.rank * size, (self.rank + 1) * size)
        return tree[(slice(None),) * axis + (own,)]


ALONE = Ranks()
"""A training in one process."""


class Address(NamedTuple):
    """How a rank finds the others."""

    coordinator: str = ""
    """`host:port` of rank 0; empty: as the environment says."""
    rank: int = 0
    count: int = 0

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address of `HOST:PORT,RANK,COUNT`, or of `auto`; raise UsageError."""
        if text == AUTO:
            return cls()
        match = re.fullmatch(r"([^,\s]+:\d+),(\d+),(\d+)", text)
        if match is None:
            raise UsageError(
                f"--distributed is {quoted(text)}; valid: nothing (addresses as torchrun, SLURM, "
                "MPI or TPUs set them), or HOST:PORT,RANK,COUNT, e.g. 10.0.0.1:1234,0,2"
            )
        rank, count = int(match[2]), int(match[3])
        if not rank < count:
            raise UsageError(f"--distributed names rank {rank} of {count}; valid: 0 to {count - 1}")
        return cls(match[1], rank, count)


def require_parts(what: str, size: int, count: int) -> None:
    """Raise UsageError unless `size` can be divided into `count` equal parts."""
    if size % count:
        raise UsageError(
            f"{what} is {size}, which {count} processes cannot share out equally: choose a "
            f"multiple of {count}"
        )


_failed = False


@contextlib.contextmanager
def leaving_after_errors() -> Iterator[None]:
    """Note an error inside: the process is then to end at once, as `leave` does.

    At its end, a library would wait for the others, which may wait for this process.
    """
    global _failed
    try:
        yield
    except BaseException:
        _failed = True
        raise


def leave(status: int) -> None:
    """End this process at once, if an error has ended its part of a training of several."""
    if _failed:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
