"""Execute the runs of an interleaving: prepared one after another, then sampled in turns.

At any time one worker works and the others wait. The worker's side is worker/turns.py; the reasons
are in docs/decisions/0030. A single run asks for no turns and is just executed.
"""

from __future__ import annotations

import selectors
from collections.abc import Sequence

from tiebreak.bench.clock import Timer
from tiebreak.bench.manager.reaper import Orphans
from tiebreak.bench.manager.worker_process import Worker
from tiebreak.bench.worker.turns import GO

ENOUGH = b"enough"
"""Reply that ends the samples of a probe."""


def run_interleaved(
    workers: Sequence[Worker], timeout_s: float, probes: Sequence[str] = ()
) -> None:
    """Execute workers until all have ended; each then holds its outcome.

    Args:
        timeout_s: Time limit of each worker, without waiting for its turns.
        probes: Order in which all workers measure those probes that they have.
    """
    with Orphans() as orphans, selectors.DefaultSelector() as selector:
        interleaving = _Interleaving(timeout_s, tuple(probes), selector, orphans)
        try:
            interleaving.execute(workers)
        finally:  # also when the manager is interrupted
            for worker in list(interleaving.alive):
                interleaving.end(worker, late=False)


class _Interleaving:
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

    def execute(self, workers: Sequence[Worker]) -> None:
        """Let each worker prepare until it asks for a turn, then sample probe by probe."""
        for worker in workers:
            if worker.start():
                self.alive.append(worker)
                for fd, reader in worker.readers().items():
                    self.selector.register(fd, selectors.EVENT_READ, reader)
                self._listen(worker)

        while self.alive:
            first = min(map(self._rank, self.alive))
            measuring = [worker for worker in self.alive if self._rank(worker) == first]
            self._sample(measuring, first)
            for worker in measuring:
                if worker.request and self._rank(worker) == first:
                    worker.reply(ENOUGH)
                    self._listen(worker)

    def _sample(self, measuring: Sequence[Worker], rank: int) -> None:
        """Grant turns in rounds, each in the opposite order of the last, until all have enough."""
        order = list(measuring)
        while not all(w.request.get("enough") or w.request.get("spent") for w in order):
            for worker in order:
                if not worker.request.get("spent"):
                    worker.reply(GO)
                    self._listen(worker)
            order = [w for w in reversed(order) if w.request and self._rank(w) == rank]

    def _rank(self, worker: Worker) -> int:
        """Return the place in the order of probes of the probe that a worker wants to sample."""
        probes = {cell.id: cell.probe for cell in worker.job.cells}
        probe = probes[worker.request["cell_id"]]
        return self.probes.index(probe) if probe in self.probes else 0

    def _listen(self, worker: Worker) -> None:
        """Read from a worker until it asks for its next turn; end it if it is over or late."""
        timer, limit_s = Timer(), self.timeout_s - worker.active_s
        late = False
        while not (worker.request or worker.is_over or late):
            for key, _ in self.selector.select(0.1):
                if not key.data():
                    self.selector.unregister(key.fd)  # closed at the other end
            late = timer.elapsed_s() > limit_s
        worker.active_s += timer.elapsed_s()
        if late or not worker.request:
            self.end(worker, late)

    def end(self, worker: Worker, late: bool) -> None:
        """End a worker with all processes that it has left behind."""
        self.alive.remove(worker)
        worker.request = {}
        for fd in worker.readers():
            if fd in self.selector.get_map():
                self.selector.unregister(fd)
        worker.end(self.timeout_s if late else None)
        self.orphans.end(spare={other.process.pid for other in self.alive})
        worker.close()
