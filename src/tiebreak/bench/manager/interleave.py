"""Execute the runs of an interleaving: prepared one after another, then sampled in turns.

While samples are taken, one worker works and the others wait. The worker's side is worker/turns.py;
the reasons are in docs/decisions/0030. A single run asks for no turns and is just executed. Where
nothing is sampled, several workers may work at the same time (docs/decisions/0039).
"""

from __future__ import annotations

import selectors
from collections import deque
from collections.abc import Callable, Collection, Sequence

from tiebreak.bench.clock import Timer
from tiebreak.bench.manager.reaper import Orphans
from tiebreak.bench.manager.worker_process import Worker
from tiebreak.bench.worker.turns import GO, LAST

ENOUGH = b"enough"
"""Reply that ends the samples of a probe."""

LEAST_EVEN = 3
"""An odd number of rounds from this on is made even; one more of one or two would cost much."""


class Pace:
    """Decide how long an interleaving goes on. This one takes what each run needs.

    Rounds are then made even: in each, caches are a little warmer for the second of two workers.
    """

    def wants_more(self, probe: str, rounds: int, seconds: float) -> bool:
        """Return True for one more round of a probe of which every run has enough samples.

        `rounds` have been taken so far, in `seconds`.
        """
        return rounds % 2 == 1 and rounds >= LEAST_EVEN

    def goes_on(self, probes: Collection[str]) -> bool:
        """Return True if these probes, which are left, are to be measured, too."""
        return True


def run_interleaved(
    workers: Sequence[Worker],
    timeout_s: float,
    probes: Sequence[str] = (),
    *,
    at_once: int = 1,
    end_at_once: int = 1,
    pace: Pace | None = None,
) -> None:
    """Execute workers until all have ended; each then holds its outcome.

    Args:
        timeout_s: Time limit of each worker, without waiting for its turns.
        probes: Order in which all workers measure those probes that they have.
        at_once: Workers that may prepare at the same time.
        end_at_once: Workers that may check their work and end at the same time.
        pace: Decides about further rounds and probes.
    """
    with Orphans() as orphans, selectors.DefaultSelector() as selector:
        interleaving = _Interleaving(
            timeout_s, tuple(probes), at_once, end_at_once, pace or Pace(), selector, orphans
        )
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
        at_once: int,
        end_at_once: int,
        pace: Pace,
        selector: selectors.BaseSelector,
        orphans: Orphans,
    ):
        self.timeout_s, self.probes, self.pace = timeout_s, probes, pace
        self.at_once, self.end_at_once = at_once, end_at_once
        self.selector, self.orphans = selector, orphans
        self.alive: list[Worker] = []
        self.sampled: set[Worker] = set()
        """Workers that have had a turn for the probe that they want to sample."""

    def execute(self, workers: Sequence[Worker]) -> None:
        """Let each worker prepare until it asks for a turn, then sample probe by probe."""
        self._let_work(workers, self._start, self.at_once)
        while self.alive:
            first = min(map(self._rank, self.alive))
            measuring = [worker for worker in self.alive if self._rank(worker) == first]
            self._sample(measuring, first)

            answered = [w for w in measuring if w.request and self._rank(w) == first]
            self.sampled &= set(answered)
            left = {probe for worker in self.alive for probe in self._left(worker, first)}
            if left and not self.pace.goes_on(left):
                self._let_end(list(self.alive), self._dismiss)
            elif left:  # those that go on to another probe prepare it
                self._let_work(answered, self._end_probe, self.at_once)
            else:
                self._let_end(answered, self._end_probe)

    def _sample(self, measuring: Sequence[Worker], rank: int) -> None:
        """Grant turns in rounds, each in the opposite order of the last, until all have enough."""
        order, rounds, timer = list(measuring), 0, Timer()
        while not all(w.request.get("spent") for w in order):
            if all(w.request.get("enough") or w.request.get("spent") for w in order):
                probe = self._probe(order[0])
                if not self.pace.wants_more(probe, rounds, timer.elapsed_s()):
                    return
            for worker in order:
                if not worker.request.get("spent"):
                    self._let_work([worker], self._grant_turn)
            order = [w for w in reversed(order) if w.request and self._rank(w) == rank]
            rounds += 1

    def _start(self, worker: Worker) -> bool:
        """Start a worker and listen to it; return False if it cannot be started."""
        if not worker.start():
            return False
        self.alive.append(worker)
        for fd, reader in worker.readers().items():
            self.selector.register(fd, selectors.EVENT_READ, reader)
        return True

    def _grant_turn(self, worker: Worker) -> bool:
        self.sampled.add(worker)
        worker.reply(GO)
        return True

    def _end_probe(self, worker: Worker) -> bool:
        worker.reply(ENOUGH)
        return True

    def _dismiss(self, worker: Worker) -> bool:
        worker.dismiss(had_turns=worker in self.sampled)
        worker.reply(LAST)
        return True

    def _rank(self, worker: Worker) -> int:
        """Return the place in the order of probes of the probe that a worker wants to sample."""
        probe = self._probe(worker)
        return self.probes.index(probe) if probe in self.probes else 0

    def _probe(self, worker: Worker) -> str:
        """Return the probe that a worker wants to sample."""
        probes = {cell.id: cell.probe for cell in worker.job.cells}
        return probes[worker.request["cell_id"]]

    def _left(self, worker: Worker, rank: int) -> list[str]:
        """Return the probes of a worker that it has not sampled, if this one has been sampled."""
        sampled = worker.request.get("cell_id") if self._rank(worker) == rank else None
        return [c.probe for c in worker.job.cells if c.id in worker.pending and c.id != sampled]

    def _let_end(self, workers: Sequence[Worker], begin: Callable[[Worker], bool]) -> None:
        """Let workers check their work and end, some at a time; their phases are over by now."""
        self._let_work(workers, begin, self.end_at_once, prepares=False)

    def _let_work(
        self,
        workers: Sequence[Worker],
        begin: Callable[[Worker], bool],
        at_once: int = 1,
        prepares: bool = True,
    ) -> None:
        """Let workers work, so many at a time, until each asks for a turn, is over, or is late.

        `begin` starts the work of one, and returns False if it cannot. Workers that prepare at the
        same time are marked: how long their phases took says little.
        """
        waiting, working = deque(workers), dict[Worker, Timer]()
        while waiting or working:
            while waiting and len(working) < at_once:
                worker = waiting.popleft()
                if begin(worker):
                    working[worker] = Timer()
            if prepares and len(working) > 1:
                for worker in working:
                    worker.overlapped = True
            self._listen(working)

    def _listen(self, working: dict[Worker, Timer]) -> None:
        """Read from all workers for a moment; drop those that do not work any more."""
        for key, _ in self.selector.select(0.1):
            if not key.data():
                self.selector.unregister(key.fd)  # closed at the other end
        for worker, timer in list(working.items()):
            late = worker.active_s + timer.elapsed_s() > self.timeout_s
            if worker.request or worker.is_over or late:
                worker.active_s += timer.elapsed_s()
                del working[worker]
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
