"""The rows of the self-test: what each one tests, and the figure at which it passes.

A row's function takes a `Context` and returns an `Outcome`; it raises nothing that it expects.
Its module is loaded when it is run: listing rows needs no NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tiebreak import registry

SCALES = ("smoke", "quick", "full")
"""smoke: does it run? quick: about a tenth of the figures. full: the figures of the protocol."""


class Outcome(NamedTuple):
    """What a row found. `passed` is None where it could not be run, and `detail` says why."""

    passed: bool | None
    measured: dict[str, Any]
    """The few numbers that the rule is about, as JSON."""
    detail: str
    """One line."""
    raw: dict[str, Any] = {}  # noqa: RUF012  read only
    """What they were computed from; raw samples stay in the row's folder."""


@dataclass
class Context:
    """What a row is given."""

    folder: Path
    """Its own, below the results folder; it exists."""
    scale: str
    seed: int
    say: Callable[[str], None]

    def count(self, smoke: int, quick: int, full: int) -> int:
        """How many, at this scale."""
        return {"smoke": smoke, "quick": quick, "full": full}[self.scale]


class Row(NamedTuple):
    """One line of the protocol's table."""

    name: str
    title: str
    rule: str
    run: Callable[[Context], Outcome]
    real: bool
    """It takes real visits, and wants a quiet machine."""
    seconds: tuple[int, int, int] = (0, 0, 0)
    """Estimates at smoke, quick and full, on two quiet cores; 0 where there is none."""


class Lazy(NamedTuple):
    """A row's function by name; its module is loaded when the row is run."""

    module: str
    function: str

    def __call__(self, ctx: Context) -> Outcome:
        """Load and run it."""
        return getattr(registry.load(f"tiebreak.selftest.{self.module}"), self.function)(ctx)


ROWS: tuple[Row, ...] = (
    Row(
        "simulated-aa",
        "identical programs, simulated",
        "called different in 3.6 to 6.5 % of suites at each noise level; "
        "pooled without blocks, the control, in more than 30 %",
        Lazy("false_alarms", "simulated_aa"),
        real=False,
        seconds=(5, 5, 10),
    ),
    Row(
        "coverage",
        "intervals hold the truth",
        "93 to 97 % of intervals do, under normal, skewed and autocorrelated noise",
        Lazy("false_alarms", "coverage"),
        real=False,
        seconds=(5, 5, 10),
    ),
    Row(
        "slowdown",
        "a planted slowdown is seen",
        "truth in ≥ 93 % of intervals; seen in ≥ 80 % of runs at the effect printed as "
        "detectable; no wrong sign at ≥ 5 % in 1000",
        Lazy("planted", "slowdown"),
        real=True,
        seconds=(45, 80, 700),
    ),
    Row(
        "linearity",
        "N, 2N, 4N and 8N units of work",
        "residual ≤ 2 %, intercept ≤ 1 % of the shortest sample at full, 0.4 s",
        Lazy("timing", "linearity"),
        real=True,
        seconds=(30, 180, 660),
    ),
    Row(
        "hog",
        "a CPU hog beside a visit is noticed",
        "≥ 95 % of visits flagged as contended with a hog, ≤ 5 % without",
        Lazy("hogs", "hog"),
        real=True,
        seconds=(40, 90, 260),
    ),
    Row(
        "traps",
        "visits that measure the wrong thing",
        "async, retrace (shape, Python int), ninth recompile, stale cache, dead code, skipped "
        "updates, zeros: each flagged; clean control 0 of 20",
        Lazy("traps", "traps"),
        real=True,
        seconds=(60, 120, 200),
    ),
    Row(
        "leak",
        "a planted leak is noticed",
        "flagged by 50 units; control 0 of 20",
        Lazy("leaks", "leak"),
        real=True,
        seconds=(40, 80, 200),
    ),
    Row(
        "faults",
        "workers that fail in every way",
        "each recorded with its reason, every other cell done, no process survives",
        Lazy("faults", "faults"),
        real=False,
        seconds=(30, 45, 90),
    ),
    Row(
        "kills",
        "the manager is killed at random instants",
        "no finished visit lost, at most one repeated; --resume runs what is missing",
        Lazy("kills", "kills"),
        real=False,
        seconds=(20, 60, 500),
    ),
    Row(
        "damage",
        "damaged, newer and unwritable records",
        "every intact record loads, the bad are set aside and counted, no crash",
        Lazy("damage", "damage"),
        real=False,
        seconds=(5, 20, 150),
    ),
    Row(
        "writers",
        "8 writers × 1000 records in one folder",
        "none lost, none torn",
        Lazy("writers", "writers"),
        real=False,
        seconds=(2, 5, 30),
    ),
    Row(
        "real-aa",
        "the same cell under two names",
        "at most 18 of 200 pairs called different at nominal 5 %",
        Lazy("timing", "real_aa"),
        real=True,
        seconds=(20, 130, 1700),
    ),
    Row(
        "second-clock",
        "the second clock agrees with the worker's",
        "within 0.5 % + 1 ms in every visit",
        Lazy("timing", "second_clock"),
        real=True,
        seconds=(10, 15, 70),
    ),
)
"""In the order in which they are run: the cheap first; the second clock reads others' visits."""
