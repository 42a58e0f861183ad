"""What the self-test's real visits measure: the ordinary subject, a known number of times.

A cell says how often in its own words. The probe `update x200` does 200 times what `update` does in
every call, and says so in its units. The label `x1.05` does 5 % more of the same work behind the
back of the stopwatch: its units per call stay what they are, its counted work is what it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tiebreak.bench.probes import Probe, Subject

PROBE = re.compile(r"(\w+) x(\d+)")
LABEL = re.compile(r"x(\d+\.\d+)")


class Repeated(Subject):
    """A row's agent, environment and loop, each of whose calls is many."""

    def probe(self, name: str) -> Probe:
        """`update x200`: the probe `update`, with 200 of its calls in one."""
        found, planted = PROBE.fullmatch(name), LABEL.fullmatch(self.cell["label"])
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


def make_subject(job: Mapping[str, Any]) -> Repeated:
    """What the worker asks for."""
    return Repeated(job)
