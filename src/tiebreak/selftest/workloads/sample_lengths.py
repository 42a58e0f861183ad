"""Workload that measures an ordinary probe in short and in long samples.

The probe `forward in samples of 0.2 s` takes one sample of `forward` in each of its calls, as the
stopwatch takes it: four of n calls, which last 0.2 s, one of 8n, four of n, and so on.
"""

from __future__ import annotations

import re
from dataclasses import replace

from tiebreak.bench.probes.base import Probe
from tiebreak.bench.probes.subject import AgentSubject
from tiebreak.bench.suite.plan import Effort, Job
from tiebreak.bench.worker import sampling
from tiebreak.bench.worker.sampling import Timed

NAME = re.compile(r"(\w+) in samples of (\d+\.\d+) s")
LENGTHS = (1, 1, 1, 1, 8, 1, 1, 1, 1)
"""Calls of the samples in turn, in multiples of the shortest: a round. It is its own mirror image,
as two blocks are, and has as many calls in short samples as in long ones, so that what disturbs the
machine disturbs both alike."""

COMPILING = Effort(silent_calls=3, warmup_s=20.0)
"""Calls before the number of calls in a sample is chosen."""


class Lengths(AgentSubject):
    """An ordinary subject whose probes are measured in samples of two lengths."""

    def probe(self, name: str) -> Probe:
        """Return a probe of samples: `forward in samples of 0.2 s`."""
        base, shortest_s = probe_and_length(name)
        once = super().probe(base)
        timed = Timed(once.call, once.state, self.sync)
        sampling.warm_up(timed, self.compile_count, COMPILING)
        n = sampling.calibrate(timed, Effort(sample_s=shortest_s, most_calls=1_000_000))
        made = [0]

        def call() -> float:
            calls = n * LENGTHS[made[0] % len(LENGTHS)]
            made[0] += 1
            return timed.seconds(calls)

        return replace(
            once,
            unit="samples",
            units_per_call=1,
            call=call,
            expected={"samples": 1},
            counted=lambda: {"samples": made[0]},
            numbers=lambda seconds: {"seconds": seconds},
        )


def probe_and_length(name: str) -> tuple[str, float]:
    """Return the ordinary probe that is sampled, and the seconds of its short samples."""
    match = NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is no probe of samples, as 'forward in samples of 0.2 s' is")
    return match[1], float(match[2])


def make_subject(job: Job) -> Lengths:
    """Return the workload of a visit."""
    return Lengths(job)
