"""What the self-test's real visits measure: the ordinary subject, a known number of times.

A cell says how often in its own words. The probe `update x200` does 200 times what `update` does in
every call, and says so in its units. `update of 8, 16` does 8 times, then 16, 16, and 8 again. The
label `x1.05` does 5 % more of the same work behind the back of the stopwatch: its units per call
stay what they are, its counted work is what it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tiebreak.bench.probes.base import Probe
from tiebreak.bench.probes.subject import AgentSubject
from tiebreak.bench.suite.plan import Job

PROBE = re.compile(r"(\w+) x(\d+)")
MIXED = re.compile(r"(\w+) of (\d+(?:, \d+)*)")
LABEL = re.compile(r"x(\d+\.\d+)")


class Repeated(AgentSubject):
    """A row's agent, environment and loop, each of whose calls is many."""

    def probe(self, name: str) -> Probe:
        """`update x200`: the probe `update`, with 200 of its calls in one."""
        if mixed := MIXED.fullmatch(name):
            return self._mixed(super().probe(mixed[1]), amounts(name))
        found, planted = PROBE.fullmatch(name), LABEL.fullmatch(self.cell.label)
        base, times = (found[1], int(found[2])) if found else (name, 1)
        once = super().probe(base)
        calls = round(times * float(planted[1] if planted else 1))
        return replace(
            once,
            units_per_call=once.units_per_call * times,
            call=lambda: [once.call() for _ in range(calls)],
            expected={unit: n * calls for unit, n in once.expected.items()},
            numbers=lambda outputs: once.numbers(outputs[-1]),
        )

    def _mixed(self, once: Probe, turns: Sequence[int]) -> Probe:
        """One call after the other does as much as its turn says; the count proves that it did."""
        made, updates = [0], next(iter(once.expected))
        before = once.counted()[updates]

        def call() -> Any:
            made[0] += 1
            return [once.call() for _ in range(turns[(made[0] - 1) % len(turns)])]

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


def amounts(name: str) -> tuple[int, ...]:
    """How often in each turn: `update of 8, 16` -> 8, 16, 16, 8, mirrored as blocks are."""
    found = MIXED.fullmatch(name)
    once = tuple(map(int, found[2].split(", "))) if found else ()
    return once + once[::-1]


def make_subject(job: Job) -> Repeated:
    """What the worker asks for."""
    return Repeated(job)
