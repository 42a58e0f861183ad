"""The checks of the self-test: what each one tests, and the figure at which it passes.

A check is a function that takes a `Context` and returns an `Outcome`; failures that it expects are
outcomes, not exceptions. Its module is imported when it runs, so that listing checks does not load
the benchmark manager.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tiebreak import registry
from tiebreak.selftest.base import Context, Outcome


class Check(NamedTuple):
    """One check of the self-test."""

    name: str
    title: str
    rule: str
    """When it passes, for people."""
    run: Callable[[Context], Outcome]
    seconds: tuple[int, int, int] = (0, 0, 0)
    """Estimates at smoke, quick and full, on two quiet cores; 0 if unknown."""


class Imported(NamedTuple):
    """A check's function, imported when it is first called."""

    module: str
    function: str

    def load(self) -> Callable[[Context], Outcome]:
        """Import the module and return the function."""
        return getattr(registry.load(self.module), self.function)

    def __call__(self, ctx: Context) -> Outcome:
        """Run the check."""
        return self.load()(ctx)


CHECKS: tuple[Check, ...] = (
    Check(
        "simulated-aa",
        "identical programs, simulated",
        "called different in 3.6 to 6.5 % of suites at each noise level; "
        "pooled without blocks, the control, in more than 30 %",
        Imported("tiebreak.selftest.simulated.false_alarms", "simulated_aa"),
        seconds=(5, 5, 10),
    ),
    Check(
        "coverage",
        "intervals hold the truth",
        "93 to 97 % of intervals do, under normal, skewed and autocorrelated noise",
        Imported("tiebreak.selftest.simulated.false_alarms", "coverage"),
        seconds=(5, 5, 10),
    ),
    Check(
        "simulated-quick",
        "quick runs, simulated",
        "93 to 97 % of intervals hold the truth on four kinds of machine, false verdicts in 5 % "
        "of groups or fewer, planted differences above the printed one seen in 80 %",
        Imported("tiebreak.selftest.simulated.quick_runs", "quick_runs"),
        seconds=(12, 12, 45),
    ),
    Check(
        "slowdown",
        "a planted slowdown is seen",
        "truth in ≥ 93 % of intervals; seen in ≥ 80 % of runs at the effect printed as "
        "detectable; no wrong sign at ≥ 5 % in 1000",
        Imported("tiebreak.selftest.simulated.slowdown", "slowdown"),
        seconds=(45, 80, 700),
    ),
    Check(
        "linearity",
        "N, 2N, 4N and 8N units of work",
        "residual ≤ 2 %, intercept ≤ 1 % of the shortest sample at full, 0.4 s",
        Imported("tiebreak.selftest.real.timing", "linearity"),
        seconds=(30, 180, 660),
    ),
    Check(
        "sample-length",
        "samples of n and of 8n calls",
        "the time of a call does not surely differ by more than 2 %, for every probe",
        Imported("tiebreak.selftest.real.sample_lengths", "sample_length"),
    ),
    Check(
        "hog",
        "a CPU hog beside a visit is noticed",
        "≥ 95 % of visits flagged as contended with a hog, ≤ 5 % without",
        Imported("tiebreak.selftest.real.cpu_hog", "hog"),
        seconds=(40, 90, 260),
    ),
    Check(
        "traps",
        "visits that measure the wrong thing",
        "async, retrace (shape, Python int), ninth recompile, stale cache, dead code, skipped "
        "updates, zeros: each flagged; clean control 0 of 20",
        Imported("tiebreak.selftest.mechanics.traps", "traps"),
        seconds=(60, 120, 200),
    ),
    Check(
        "leak",
        "a planted leak is noticed",
        "flagged by 50 units; control 0 of 20",
        Imported("tiebreak.selftest.mechanics.leaks", "leak"),
        seconds=(40, 80, 200),
    ),
    Check(
        "faults",
        "workers that fail in every way",
        "each recorded with its reason, every other cell done, no process survives",
        Imported("tiebreak.selftest.mechanics.faults", "faults"),
        seconds=(30, 45, 90),
    ),
    Check(
        "kills",
        "the manager is killed at random instants",
        "no finished visit lost, at most one repeated; --resume runs what is missing",
        Imported("tiebreak.selftest.mechanics.killed_manager", "kills"),
        seconds=(20, 60, 500),
    ),
    Check(
        "damage",
        "damaged, newer and unwritable records",
        "every intact record loads, the bad are set aside and counted, no crash",
        Imported("tiebreak.selftest.mechanics.corrupt_records", "damage"),
        seconds=(5, 20, 150),
    ),
    Check(
        "writers",
        "8 writers × 1000 records in one folder",
        "none lost, none torn",
        Imported("tiebreak.selftest.mechanics.concurrent_writers", "writers"),
        seconds=(2, 5, 30),
    ),
    Check(
        "real-aa",
        "the same cell under two names",
        "at most 18 of 200 pairs called different at nominal 5 %",
        Imported("tiebreak.selftest.real.timing", "real_aa"),
        seconds=(20, 130, 1700),
    ),
    Check(
        "second-clock",
        "the second clock agrees with the worker's",
        "within 0.5 % + 1 ms in every visit",
        Imported("tiebreak.selftest.real.timing", "second_clock"),
        seconds=(10, 15, 70),
    ),
)
"""In the order in which they run: cheap ones first; second-clock also reads visits of others."""
