"""How long visits will take, before one was made: for `--dry-run`, and for the first time left.

The constants are medians of `phases_s` in the records of results/amd-epyc-2-cores (suites quick and
speed: PPO, size s, 4 and 64 environments, two cores), rounded; START_S is what is left of the time
between two canaries. Another machine, larger networks or modes that are not in those records take
another time: this is an estimate, and once visits have been made theirs is the better one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from tiebreak import registry
from tiebreak.bench.manager.record import Record
from tiebreak.bench.suite.plan import Cell, Plan, Scale, Visit
from tiebreak.bench.worker.sampling import Effort

START_S = 0.9
"""To start a process and to end it."""

DEVICE_ENGINE_S = 1.5
"""More, where the engine brings JAX's own environments."""

TRACE_S = {
    "forward": 0.1, "interact": 0.5, "update": 1.1, "train": 1.4, "iteration": 1.4, "rebuild": 1.1,
}  # fmt: skip
"""JAX: to compile a probe; none serves another."""

FUSED_TRAIN_S = 2.6

CALL_S = {
    "forward": 0.0, "env": 0.01, "interact": 0.05, "update": 0.01, "train": 0.06, "iteration": 0.06,
    "population": 0.1,
}  # fmt: skip
"""One call of a probe; one of `rebuild` compiles anew."""

STEADY = 1.3
"""The steady phase lasts this many times its least, as samples end up longer than they must."""

WATCH_S = 0.1
"""To see that nothing runs on after the samples, and to collect garbage."""

CERTIFICATE_S = 13.0
"""The short certificate, for each framework."""


def expected_s(settings: Scale, cells: Sequence[Cell], cold: bool | None = None) -> float:
    """Seconds of one visit of these cells; `cold`: empty compile cache (None: as the cell says)."""
    first = cells[0]
    cold = first.cache == "cold" if cold is None else cold
    framework = registry.FRAMEWORKS.get(first.framework)
    seconds = START_S + (framework.load_s if framework else 0.1)
    if registry.ENGINES[first.task.partition("/")[0]].kind == "device":
        seconds += DEVICE_ENGINE_S
    if first.mode != "eager":
        empty, filled = _compile_s(first.framework)
        seconds += empty if cold else filled
    return seconds + sum(_probe_s(cell) + _measure_s(settings.effort, cell) for cell in cells)


def _compile_s(framework: str) -> tuple[float, float]:
    """Return the seconds to compile all probes of a process, with an empty and a filled cache."""
    row = registry.FRAMEWORKS.get(framework)
    return (row and row.compile_s) or (0.0, 0.0)


def _probe_s(cell: Cell) -> float:
    """The first call, as far as it is a probe's own."""
    row = registry.FRAMEWORKS.get(cell.framework)
    own = row is not None and row.compile_s is None
    if not own or cell.mode == "eager":
        return 0.1
    if cell.loop == "fused" and cell.probe in ("train", "iteration", "population"):
        return FUSED_TRAIN_S
    return TRACE_S.get(cell.probe, TRACE_S["update"])  # a subject may have probes of its own


def once_s(cell: Cell, results: Sequence[Record], first: bool) -> float:
    """Seconds of a visit that the next one of these cells is spared: the memory series, and, if it
    was the first in this run's compile cache, filling that.
    """
    phases = [result["phases_s"] for result in results]
    seconds = sum(phase.get("memory", 0.0) for phase in phases)
    cold, warm = _compile_s(cell.framework)
    if first and cell.mode != "eager" and cell.cache == "warm" and cold > warm:
        seconds += (1 - warm / cold) * sum(phase.get("first_call", 0.0) for phase in phases)
    return seconds


def _measure_s(effort: Effort, cell: Cell) -> float:
    """Warm-up, calibration, samples and memory series of one probe."""
    call = CALL_S.get(cell.probe, 0.1 if cell.mode == "eager" else 0.1 + TRACE_S["rebuild"])
    sample = max(call, effort.sample_s)
    steady = min(max(effort.samples * sample, effort.steady_s), max(effort.longest_s, 3 * sample))
    warmup = min(effort.silent_calls * call, effort.warmup_s)
    return warmup + 2 * sample + STEADY * steady + WATCH_S + effort.memory_calls * call


class Forecast(NamedTuple):
    """What a plan will take. Times in seconds; a warm cache is empty in the first block."""

    visits_per_block: int
    least_blocks: int
    most_blocks: int
    certificate_s: float | None
    """None: there is one, and nothing is known of how long it takes."""
    calibration_s: float
    first_block_s: float
    block_s: float
    least_s: float
    most_s: float


def forecast(plan: Plan, absent: Collection[str] = ()) -> Forecast:
    """A plan's visits, blocks and time; cells whose ids are `absent` take none."""
    settings = plan.settings
    visits = [visit for visits in plan.block(0) for visit in visits]
    made = [v for v in visits if not absent or not {c.id for c in v.cells} & set(absent)]
    first = sum(expected_s(settings, v.cells, cold=True) for v in made)
    later = sum(expected_s(settings, v.cells) for v in made)
    calibration = first if settings.calibration else 0.0
    certificate = _certificate_s(plan, made)
    start = (certificate or 0.0) + calibration
    blocks = [later if calibration else first, *[later] * (settings.blocks - 1)]
    stages = settings.stages
    most = _blocks_in_time(settings, start, blocks)
    least = min(stages[0], most) if stages else most
    return Forecast(
        len(made),
        least,
        most,
        certificate,
        calibration,
        blocks[0],
        later,
        start + sum(blocks[:least]),
        start + sum(blocks[:most]),
    )


def _certificate_s(plan: Plan, made: Sequence[Visit]) -> float | None:
    if not plan.settings.certificate:
        return 0.0
    raced = {(c.algorithm, c.framework) for v in made for c in v.cells}
    known = plan.scale != "full"
    return CERTIFICATE_S * sum(f in registry.FRAMEWORKS for _, f in raced) if known else None


def _blocks_in_time(settings: Scale, start: float, blocks: Sequence[float]) -> int:
    """How many blocks are started, by the rule that the manager follows."""
    spent = start + blocks[0]
    for index, seconds in enumerate(blocks[1:], 1):
        limit = settings.limit_s if index < settings.least_blocks else settings.budget_s
        if limit is not None and spent + seconds > limit:
            return index
        spent += seconds
    return len(blocks)
