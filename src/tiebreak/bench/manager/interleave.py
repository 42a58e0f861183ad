"""The visits of a set, made together: prepared one after the other, then sampled in turns.

At any time one worker is at work, and the others wait. The worker's end of it is turns.py; why it
is done is docs/decisions/0030. One visit by itself asks for no turns, and is just run.
"""

from __future__ import annotations

import selectors
from collections.abc import Sequence
from typing import Any

from tiebreak.bench.manager.reaper import Orphans
from tiebreak.bench.manager.worker_process import Worker
from tiebreak.bench.worker.clock import Timer
from tiebreak.bench.worker.turns import GO

ENOUGH = b"enough"
"""The word that ends a probe's samples."""


def run(workers: Sequence[Worker], timeout_s: float, probes: Sequence[str] = ()) -> None:
    """Make these visits; each worker says afterwards how it ended.

    `timeout_s` is what one may take that is not waiting for the others. `probes` is the order in
    which they are measured, by every worker that has them.
    """
    with Orphans() as orphans, selectors.DefaultSelector() as selector:
        together = _Together(timeout_s, tuple(probes), selector, orphans)
        try:
            together.measure(workers)
        finally:  # also when the manager is interrupted
            for worker in list(together.alive):
                together.end(worker, late=False)


class _Together:
    def __init__(
        self,
        timeout_s: float,
        probes: tuple[str, ...],
        selector: selectors.BaseSelector,
        orphans: Orphans,
    ):
        self.timeout_s, self.probes = timeout_s, probes
        self.selector, self.orphans = selector, orphans
        self.alive: list[Worker] = []

    def measure(self, workers: Sequence[Worker]) -> None:
        """Each until it asks for its first turn; then probe by probe."""
        for worker in workers:
            if worker.start():
                self.alive.append(worker)
                for fd, reader in worker.readers().items():
                    self.selector.register(fd, selectors.EVENT_READ, reader)
                self._go_on(worker)
        while self.alive:
            first = min(map(self._rank, self.alive))
            here = [worker for worker in self.alive if self._rank(worker) == first]
            self._rounds(here, first)
            for worker in here:
                if worker.asks and self._rank(worker) == first:
                    worker.answer(ENOUGH)
                    self._go_on(worker)

    def _rounds(self, here: Sequence[Worker], rank: int) -> None:
        """Turn after turn, each round in the opposite order of the last, until all have enough."""
        order = list(here)
        while not all(w.asks.get("enough") or w.asks.get("spent") for w in order):
            for worker in order:
                if not worker.asks.get("spent"):
                    worker.answer(GO)
                    self._go_on(worker)
            order = [w for w in reversed(order) if w.asks and self._rank(w) == rank]

    def _rank(self, worker: Worker) -> int:
        """Where in the order of probes it is."""
        by_id: dict[str, Any] = {cell["id"]: cell for cell in worker.job["cells"]}
        probe = by_id[worker.asks["cell_id"]].get("probe")
        return self.probes.index(probe) if probe in self.probes else 0

    def _go_on(self, worker: Worker) -> None:
        """Until it asks for its next turn, or is over; a worker that is over is ended."""
        timer, limit_s = Timer(), self.timeout_s - worker.active_s
        late = False
        while not (worker.asks or worker.over or late):
            for key, _ in self.selector.select(0.1):
                if not key.data():
                    self.selector.unregister(key.fd)  # closed at the other end
            late = timer.elapsed_s() > limit_s
        worker.active_s += timer.elapsed_s()
        if late or not worker.asks:
            self.end(worker, late)

    def end(self, worker: Worker, late: bool) -> None:
        """End it, with all that it has left behind."""
        self.alive.remove(worker)
        worker.asks = {}
        for fd in worker.readers():
            if fd in self.selector.get_map():
                self.selector.unregister(fd)
        worker.end(self.timeout_s if late else None)
        self.orphans.end({other.process.pid for other in self.alive})
        worker.close()
