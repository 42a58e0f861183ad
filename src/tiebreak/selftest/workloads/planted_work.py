"""Workload of real visits: an ordinary probe, repeated a known number of times per call.

The names of probes and labels say how often. The probe `update x200` makes 200 calls of `update` in
each of its calls, and states that in its units. `update of 8, 16` makes 8 calls, then 16, 16, and 8
again. The label `x1.05` makes 5 % more calls than it states: its units per call do not change, but
its counted work does.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tiebreak.bench.clock import KEPT
from tiebreak.bench.probes.base import Probe
from tiebreak.bench.probes.subject import AgentSubject
from tiebreak.bench.suite.plan import Job

REPEATED = re.compile(r"(\w+) x(\d+)")
MIXED = re.compile(r"(\w+) of (\d+(?:, \d+)*)")
HIDDEN_FACTOR = re.compile(r"x(\d+\.\d+)")


class Repeated(AgentSubject):
    """An ordinary subject, each of whose calls is repeated."""

    def probe(self, name: str) -> Probe:
        """Return a probe that repeats an ordinary one: `update x200`, `update of 8, 16`."""
        if mixed := MIXED.fullmatch(name):
            return self._mixed(super().probe(mixed[1]), amounts(name))
        repeated = REPEATED.fullmatch(name)
        base, times = (repeated[1], int(repeated[2])) if repeated else (name, 1)
        hidden = HIDDEN_FACTOR.fullmatch(self.cell.label)
        calls = round(times * float(hidden[1] if hidden else 1))
        once = super().probe(base)
        return replace(
            once,
            units_per_call=once.units_per_call * times,
            call=lambda: repeat(once.call, calls),
            expected={unit: n * calls for unit, n in once.expected.items()},
            numbers=lambda outputs: once.numbers(outputs[-1]),
        )

    def _mixed(self, once: Probe, turns: Sequence[int]) -> Probe:
        """Return a probe whose calls do the amounts of `turns` in turn, and count them."""
        made = [0]  # calls so far
        updates = next(iter(once.expected))
        before = once.counted()[updates]

        def call() -> Any:
            made[0] += 1
            return repeat(once.call, turns[(made[0] - 1) % len(turns)])

        def counted() -> dict[str, int]:
            planned = sum(turns) * (made[0] // len(turns)) + sum(turns[: made[0] % len(turns)])
            done = once.counted()[updates] - before
            return {"turns": made[0] if done == planned * once.expected[updates] else -1}

        return replace(
            once,
            units_per_call=once.units_per_call * sum(turns) // len(turns),
            call=call,
            expected={"turns": 1},
            counted=counted,
            numbers=lambda outputs: once.numbers(outputs[-1]),
        )


def repeat(call: Callable[[], Any], times: int) -> list[Any]:
    """Return the outputs of the last KEPT of `times` calls.

    A sample of an ordinary visit keeps no more alive, either (decision 0038). With all of them
    kept, a call of Linen's update took 30 % longer after a sample of 1040 than after one of 130.
    """
    outputs: deque[Any] = deque(maxlen=KEPT)
    for _ in range(times):
        outputs.append(call())
    return list(outputs)


def amounts(name: str) -> tuple[int, ...]:
    """Return the amounts of each turn, mirrored as blocks are: `update of 8, 16`: 8, 16, 16, 8."""
    mixed = MIXED.fullmatch(name)
    once = tuple(map(int, mixed[2].split(", "))) if mixed else ()
    return once + once[::-1]


def make_subject(job: Job) -> Repeated:
    """Return the workload of a visit."""
    return Repeated(job)
