"""Ranks in threads of one process: what processes exchange, without processes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from tiebreak.core.ranks import Ranks

WAIT_S = 60.0


class Exchange:
    """Where the threads of a group leave a value for one another."""

    def __init__(self, count: int):
        self.values: list[Any] = [None] * count
        self.barrier = threading.Barrier(count, timeout=WAIT_S)

    def __call__(self, rank: int, value: Any) -> list[Any]:
        self.values[rank] = value
        self.barrier.wait()
        values = list(self.values)
        self.barrier.wait()
        return values


class ThreadRanks(Ranks):
    """One thread's rank."""

    def __init__(self, rank: int, count: int, exchange: Exchange):
        self.rank, self.count, self._exchange = rank, count, exchange
        self.exchanges = 0

    def gather_all(self, value: Any) -> list[Any]:
        self.exchanges += 1
        return self._exchange(self.rank, value)

    def agree(self, number: int) -> int:
        return self.gather_all(number)[0]

    def tell(self, value: Any = None) -> Any:
        return self.gather_all(value)[0]

    def gather(self, tree: Any, axis: int) -> Any:
        parts = self.gather_all(tree)
        joined = tuple(np.concatenate(arrays, axis) for arrays in zip(*parts, strict=True))
        return tree._make(joined) if hasattr(tree, "_fields") else joined

    def mean(self, tensors: Any) -> list[Any]:
        of_all = self.gather_all([x.clone() for x in tensors])
        return [sum(column) / self.count for column in zip(*of_all, strict=True)]


def in_ranks(count: int, function: Callable[[Ranks], Any]) -> list[Any]:
    """Call a function with each rank, in a thread each; return the results in their order."""
    exchange = Exchange(count)

    def run(rank: int) -> Any:
        try:
            return function(ThreadRanks(rank, count, exchange))
        except BaseException:
            exchange.barrier.abort()  # the others are not to wait for it
            raise

    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(run, rank) for rank in range(count)]]
