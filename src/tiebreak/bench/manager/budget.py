"""Keep a race within its time budget: how long things take, what is left, how many rounds fit.

Only the clock decides here, never a measured value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tiebreak.bench.clock import Timer
from tiebreak.bench.manager.interleave import Pace
from tiebreak.bench.record import Record
from tiebreak.bench.suite import estimate
from tiebreak.bench.suite.durations import Durations, shipped
from tiebreak.bench.suite.plan import Cell, Plan, Run, Scale

Interleaving = Sequence[Run]

SPARE_S = 3.0
"""Time kept for what estimates leave out."""

SPEEDS = 0.25, 10.0
"""Limits to how far measured times can move the estimates of what was not measured yet."""

HASTE = 0.8
"""The first blocks start if this share of their expected time is left: without them there is no
interval, and rounds are cut where the estimate was too high."""


class Timing(NamedTuple):
    """Seconds that an interleaving took."""

    rest_s: float
    """All but the rounds of its paced probes."""
    round_s: float
    """One round of its paced probes; 0 if it has none."""
    at_once: int
    """Processes that prepared at the same time."""
    first: bool
    """It was the first of its cells: compile caches were empty, and memory was measured."""


class Budget:
    """Time of a race: spent, expected and allowed.

    Expected times are those of the last block. Before there is one, they are estimates, multiplied
    by how much longer than estimated the other interleavings took.
    """

    def __init__(self, settings: Scale, cpus: int, durations: Durations | None = None):
        self.settings, self.cpus = settings, cpus
        self.durations = durations or shipped()
        self.timer = Timer()
        self.timings: dict[frozenset[str], Timing] = {}
        """Ids of the cells of an interleaving -> what it took when it was measured last."""
        self._measured_s = self._estimated_s = 0.0
        """Sums over all interleavings that were measured."""

    def at_once(self, runs: Interleaving) -> int:
        """Return how many processes of an interleaving may prepare at the same time.

        In the first block, and where it only calibrates, it is one.
        """
        if runs[0].block <= 0 and runs[0].attempt == 0:
            return 1
        return min(self.settings.start_at_once, self.cpus)

    def is_in_time(self, block: int, interleavings: Sequence[Interleaving]) -> bool:
        """Return True if a block will end in time, with few rounds if it has to be measured."""
        settings = self.settings
        has_to = block < settings.least_blocks
        limit_s = settings.limit_s if has_to else settings.budget_s
        if limit_s is None or not interleavings:
            return True
        rounds = settings.effort.samples if has_to else settings.rounds
        needed_s = sum(self.expected_s(self._required(runs), rounds) for runs in interleavings)
        return self.timer.elapsed_s() + needed_s * (HASTE if has_to else 1.0) <= limit_s

    def left_s(self, todo: Iterable[Interleaving]) -> float:
        """Return expected seconds of what is left; the budget may end it earlier."""
        rounds = self.settings.rounds
        left_s = sum(self.expected_s(self._required(runs), rounds) for runs in todo)
        budget_s = self.settings.budget_s
        if budget_s is None:
            return left_s
        return min(left_s, max(0.0, budget_s - self.timer.elapsed_s()))

    def expected_s(self, runs: Interleaving, rounds: int) -> float:
        """Return expected seconds of an interleaving with so many rounds of its paced probes."""
        return self._rest_s(runs) + rounds * self._round_s(runs)

    def probes_s(self, cells: Sequence[Cell]) -> float:
        """Return expected seconds of probes in processes that have measured another one."""
        effort = self.settings.effort
        parts = [estimate.probe_s(effort, cell, None, self.durations) for cell in cells]
        return self.speed * sum(parts)

    def pace(self, runs: Interleaving, later: Sequence[Interleaving]) -> BudgetPace:
        """Return the pace of an interleaving; `later` are those that must follow in time."""
        return BudgetPace(self, runs, [self._required(other) for other in later])

    def note(self, runs: Interleaving, seconds: float, pace: BudgetPace) -> dict[str, Any]:
        """Learn from an interleaving that took so many seconds; return what `recall` takes."""
        timing = {
            "seconds": seconds,
            "rounds": pace.rounds,
            "rounds_s": pace.seconds,
            "measured": sorted(cell.id for cell in cells_of(runs) if cell in pace.measured),
        }
        self._learn(runs, timing)
        return timing

    def recall(self, plan: Plan, records: Iterable[Record]) -> None:
        """Learn from what earlier managers of a folder have noted in its records."""
        for record in records:
            if record["kind"] != "canary" or "rounds_s" not in record:
                continue
            for runs in plan.block(record["block"]):
                if set(record["measured"]) <= _ids(runs):
                    self._learn(runs, record)
                    break

    def _learn(self, runs: Interleaving, timing: Mapping[str, Any]) -> None:
        rounds, rounds_s = timing["rounds"], timing["rounds_s"]
        rest_s = max(0.0, timing["seconds"] - rounds_s)
        measured = _only(runs, lambda cell: cell.id in timing["measured"])
        if not measured:
            return
        cells, first = _ids(measured), self._is_first(measured)
        self._measured_s += rest_s
        self._estimated_s += self._estimate_s(measured, first, self.at_once(runs))
        round_s = rounds_s / rounds if rounds else 0.0
        self.timings[cells] = Timing(rest_s, round_s, self.at_once(runs), first)

    @property
    def speed(self) -> float:
        """Return how many times as long as estimated interleavings take here."""
        if not self._estimated_s:
            return 1.0
        least, most = SPEEDS
        return min(most, max(least, self._measured_s / self._estimated_s))

    def is_paced(self, cell: Cell) -> bool:
        """Return True if the rounds of this cell depend on the time that is left."""
        settings = self.settings
        return settings.rounds > 0 and (not settings.first or cell.probe in settings.first)

    def _required(self, runs: Interleaving) -> list[Run]:
        """Return the runs with the probes that come first only; others may be left out."""
        first = self.settings.first
        required = _only(runs, lambda cell: cell.probe in first) if first else []
        return required or list(runs)

    def _rest_s(self, runs: Interleaving) -> float:
        """Return expected seconds of all but the rounds of paced probes."""
        known, at_once = self._known(runs), self.at_once(runs)
        if known is None:
            return self.speed * self._estimate_s(runs, self._is_first(runs), at_once)
        timing = self.timings[known]
        measured = _only(runs, lambda cell: cell.id in known)
        # The first one compiled more than the next, and measured memory.
        seconds = timing.rest_s * self._estimate_s(measured, False, at_once)
        seconds /= self._estimate_s(measured, timing.first, timing.at_once)
        return seconds + self.probes_s([c for c in cells_of(runs) if c.id not in known])

    def _estimate_s(self, runs: Interleaving, first: bool, at_once: int) -> float:
        """Return estimated seconds of an interleaving without the rounds of paced probes."""
        settings, durations = self.settings, self.durations
        effort, cells = settings.effort, cells_of(runs)
        seconds = sum(
            estimate.expected_s(settings, run.cells, first or None, durations) for run in runs
        )
        paced = [cell for cell in cells if self.is_paced(cell)]
        seconds -= sum(estimate.turns_s(effort, cell, durations) for cell in paced)
        if first:
            seconds += sum(estimate.once_s(effort, cell, durations) for cell in cells)
        return seconds * (estimate.TOGETHER if at_once > 1 else 1.0)

    def _round_s(self, runs: Interleaving) -> float:
        known = self._known(runs)
        if known is not None:
            return self.timings[known].round_s
        paced = [cell for cell in cells_of(runs) if self.is_paced(cell)]
        effort = self.settings.effort
        return sum(estimate.turn_s(effort, cell, self.durations) for cell in paced)

    def _known(self, runs: Interleaving) -> frozenset[str] | None:
        """Return the ids of most of these cells whose time is known together."""
        known = [cells for cells in self.timings if cells <= _ids(runs)]
        return max(known, key=len, default=None)

    def _is_first(self, runs: Interleaving) -> bool:
        """Return True if no cell of these has been measured in this session."""
        return not any(cells & _ids(runs) for cells in self.timings)


class BudgetPace(Pace):
    """Take as many rounds as are aimed at, or as the budget allows to all that must follow."""

    def __init__(self, budget: Budget, runs: Interleaving, later: Sequence[Interleaving]):
        self.budget, self.later = budget, later
        self.paced = {cell.probe for cell in cells_of(runs) if budget.is_paced(cell)}
        self.measured: list[Cell] = cells_of(runs)
        """Cells that are measured: all, until `goes_on` says otherwise."""
        self._done: dict[str, tuple[int, float]] = {}

    @property
    def rounds(self) -> int:
        """Rounds of paced probes so far."""
        return max((rounds for rounds, _ in self._done.values()), default=0)

    @property
    def seconds(self) -> float:
        """Seconds of all rounds of paced probes so far."""
        return sum(seconds for _, seconds in self._done.values())

    def wants_more(self, probe: str, rounds: int, seconds: float) -> bool:
        """Return True while rounds are wanted and affordable, and where their number is odd."""
        if probe not in self.paced:
            return super().wants_more(probe, rounds, seconds)
        self._done[probe] = rounds, seconds
        if rounds % 2:
            return True
        return rounds + 2 <= min(self.budget.settings.rounds, self._affordable(rounds, seconds))

    def goes_on(self, probes: Collection[str]) -> bool:
        """Return True if other probes fit into the budget beside what must follow."""
        settings = self.budget.settings
        if not settings.first or settings.budget_s is None or self.paced & set(probes):
            return True
        others = [cell for cell in self.measured if cell.probe in probes]
        needed_s = self.budget.probes_s(others) + SPARE_S
        needed_s += sum(self.budget.expected_s(runs, settings.rounds) for runs in self.later)
        if self.budget.timer.elapsed_s() + needed_s <= settings.budget_s:
            return True
        self.measured = [cell for cell in self.measured if cell.probe not in probes]
        return False

    def _affordable(self, rounds: int, seconds: float) -> float:
        """Return the number of rounds that this and all later interleavings can have in time."""
        budget = self.budget
        limit_s = budget.settings.limit_s or budget.settings.budget_s
        if limit_s is None:
            return math.inf
        rest_s = sum(budget.expected_s(runs, 0) for runs in self.later)
        rounds_s = sum(budget.expected_s(runs, 1) for runs in self.later) - rest_s
        rounds_s += seconds / rounds
        free_s = limit_s - budget.timer.elapsed_s() - SPARE_S - rest_s + seconds
        return free_s / rounds_s if rounds_s else math.inf


def cells_of(runs: Interleaving) -> list[Cell]:
    """Return the cells of all runs of an interleaving."""
    return [cell for run in runs for cell in run.cells]


def _only(runs: Interleaving, wanted: Callable[[Cell], bool]) -> list[Run]:
    """Return the runs with their wanted cells, without runs that have none."""
    left = [run._replace(cells=tuple(filter(wanted, run.cells))) for run in runs]
    return [run for run in left if run.cells]


def _ids(runs: Interleaving) -> frozenset[str]:
    return frozenset(cell.id for cell in cells_of(runs))
