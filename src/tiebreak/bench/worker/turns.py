"""The steady phase of a visit, as its worker lives it: all at once, or in turns with other visits.

A machine that others use is fast and slow in turns of its own, for seconds. Visits that sample one
after the other meet different states; visits that are all there, and sample one at a time, round
after round, meet the same ones (docs/decisions/0030). The manager's end is together.py.
"""

from __future__ import annotations

from collections.abc import Callable

from tiebreak.bench.machine.contention import Contention, Shares
from tiebreak.bench.worker.clock import Clock, Timer

GO = b"go"
"""The manager's word for one more sample; any other means that all have enough."""
SPIN_S, STEP_S, BUSY, RUNNING_S = 0.04, 0.004, 0.1, 0.03
"""Threads of a pool spin for a while when their work is over. The next visit's turn begins when
this process has used less than a tenth of a CPU for 4 ms, or after 40 ms. One that then uses 30 ms
of CPU while it waits has work running on."""
STRETCH = 5
"""Samples in a row after those in turns, before a process is looked at for such work: what outlives
one sample may end while others have their turn, and what outlives five piles up."""


def _nobody(when: str, **about: bool) -> None:
    """The second clock of a visit that nobody times."""


class Turns:
    """Asked before each sample. `tell` reaches the manager; `answer` waits for its word.

    Without `answer` the machine is this visit's own, and the steady phase one window.
    """

    def __init__(
        self,
        tell: Callable[..., None] = _nobody,
        answer: Callable[[], bytes] | None = None,
    ):
        self._tell, self._answer = tell, answer
        self._timer: Timer | None = None
        self._contention: Contention | None = None
        self.steady_s = 0.0
        """Seconds of the turns that are over, together."""
        self.ran_on = 0.0
        """CPUs that were kept busy while it waited for a turn: work that the clock has missed."""

    @property
    def shared(self) -> bool:
        """Whether other visits use the machine between two samples."""
        return self._answer is not None

    def next(self, enough: bool, spent: bool = False) -> bool:
        """Whether to take one more sample. `enough`: none is needed; `spent`: none is possible."""
        if self._answer is None:
            if not (enough or spent):
                self._begin()
            return not (enough or spent)
        self.over()
        settle(Clock())
        if self._wait(self._answer, enough=enough or spent, spent=spent) != GO:
            return False
        self._begin()
        return True

    def _wait(self, answer: Callable[[], bytes], **about: bool) -> bytes:
        clock, timer = Clock(), Timer()
        used_ns = clock.cpu_ns()
        self._tell("ready", **about)
        word = answer()
        if (ran_s := (clock.cpu_ns() - used_ns) / 1e9) > RUNNING_S:
            self.ran_on = max(self.ran_on, ran_s / timer.elapsed_s())
        return word

    def over(self) -> None:
        """The turn, or the whole phase, ends here."""
        if self._timer is None:
            return
        self.steady_s += self._timer.elapsed_s()
        self._timer = None
        self._tell("end")
        if self._contention:
            self._contention.pause()

    def others(self) -> Shares:
        """What others took of the CPUs meanwhile: Contention.read."""
        return self._contention.read() if self._contention else {}

    def _begin(self) -> None:
        if self._timer is not None:
            return
        if self._contention:
            self._contention.resume()
        else:
            self._contention = Contention()
        self._tell("start")
        self._timer = Timer()


def settle(clock: Clock) -> None:
    """Wait until this process's own threads have come to rest, SPIN_S at most."""
    start = before = clock.now_ns()
    used = clock.cpu_ns()
    while before - start < SPIN_S * 1e9:
        clock.pause(STEP_S)
        now, spent = clock.now_ns(), clock.cpu_ns() - used
        if spent < BUSY * (now - before):
            return
        before, used = now, used + spent
