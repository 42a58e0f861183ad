"""Turns of a worker in the steady phase: all at once, or one sample at a time among other workers.

A shared machine is fast and slow in phases of seconds. Runs that sample one after the other meet
different phases; interleaved runs sample in turns, round after round, and meet the same ones
(docs/decisions/0030). The manager's side is manager/interleave.py.
"""

from __future__ import annotations

from collections.abc import Callable

from tiebreak.bench.clock import Clock, Timer
from tiebreak.bench.machine.contention import Contention, Shares

GO = b"go"
"""Reply of the manager that grants one sample; any other reply ends the sampling."""

LAST = b"last"
"""Reply that ends the sampling, and after which the worker ends: no time is left for its probes."""

SPIN_S = 0.04
"""Longest wait for this process's thread pools, which spin after work; see `settle`."""
STEP_S = 0.004
"""Interval at which `settle` looks."""
BUSY = 0.1
"""Share of a CPU below which this process counts as idle in `settle`."""

RUNNING_S = 0.03
"""CPU seconds used while waiting for a turn from which on work is running that the clock missed."""

STRETCH = 5
"""Samples in a row after those in turns, before a process is checked for unfinished work: what
outlives one sample may end during the turns of others, what outlives five piles up."""


class Dismissed(Exception):
    """The manager has no time for this probe: none of its samples was taken."""


def _ignore(when: str, **fields: bool) -> None:
    """Drop an event: there is no manager."""


class Turns:
    """Permission to sample: asked before each sample.

    `tell` sends an event to the manager, `answer` waits for its reply. Without `answer` the machine
    belongs to this run, and the steady phase is one window.
    """

    def __init__(
        self,
        tell: Callable[..., None] = _ignore,
        answer: Callable[[], bytes] | None = None,
    ):
        self._tell, self._answer = tell, answer
        self._timer: Timer | None = None
        self._contention: Contention | None = None
        self.steady_s = 0.0
        """Total seconds of the finished turns."""
        self.is_last = False
        """No further probe is to be measured."""
        self.busy_cpus = 0.0
        """CPUs kept busy while waiting for a turn, by work that the clock missed; 0 if idle."""

    @property
    def shared(self) -> bool:
        """Return True if other runs use the machine between two samples."""
        return self._answer is not None

    def next(self, enough: bool, spent: bool = False) -> bool:
        """Return True if one more sample is to be taken; wait for it where the turn is shared.

        `enough`: this run needs no more samples. `spent`: it cannot take any more.
        """
        if self._answer is None:
            wanted = not (enough or spent)
            if wanted:
                self._begin()
            return wanted

        self.finish()
        settle(Clock())
        reply = self._wait(self._answer, enough=enough or spent, spent=spent)
        if reply != GO:
            self.is_last = reply == LAST
            return False
        self._begin()
        return True

    def _wait(self, answer: Callable[[], bytes], **fields: bool) -> bytes:
        clock, timer = Clock(), Timer()
        used_ns = clock.cpu_ns()
        self._tell("ready", **fields)
        reply = answer()
        running_s = (clock.cpu_ns() - used_ns) / 1e9
        if running_s > RUNNING_S:
            self.busy_cpus = max(self.busy_cpus, running_s / timer.elapsed_s())
        return reply

    def finish(self) -> None:
        """End the turn, or the whole phase."""
        if self._timer is None:
            return
        self.steady_s += self._timer.elapsed_s()
        self._timer = None
        self._tell("end")
        if self._contention:
            self._contention.pause()

    def contention(self) -> Shares:
        """Return what others took of the CPUs during the turns; see Contention.read."""
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
    """Wait until the threads of this process are idle, SPIN_S at most."""
    start = before = clock.now_ns()
    used = clock.cpu_ns()
    while before - start < SPIN_S * 1e9:
        clock.pause(STEP_S)
        now, spent = clock.now_ns(), clock.cpu_ns() - used
        if spent < BUSY * (now - before):
            return
        before, used = now, used + spent
