"""Estimate how long runs take before any was made: for `--dry-run` and for the time left.

The constants here, and the seconds in the rows of probes and frameworks, are medians of `phases_s`
in the records of results/amd-epyc-2-cores (suites quick and speed: PPO, size s, 4 and 64
environments, two cores), rounded. Other machines and larger networks take other times; once runs
have been made, the manager uses theirs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from tiebreak import registry
from tiebreak.bench.probe_table import PROBES
from tiebreak.bench.record import Result
from tiebreak.bench.suite.plan import Cell, Effort, Plan, Run, Scale

START_S = 0.9
"""Start and end of a process: the rest of the time between two canaries."""

DEVICE_ENGINE_S = 1.5
"""Further seconds to import an engine with JAX environments."""

OTHER_LOAD_S = 0.1
"""Import and build of a cell without a framework of ours."""

FIRST_CALL_S = 0.1
"""First call of a probe that compiles nothing of its own."""

FUSED_TRAIN_S = 2.6
"""Compilation of a fused training loop."""

STEADY = 1.3
"""The steady phase is this much longer than its least, as samples last longer than they must."""

IDLE_CHECK_S = 0.1
"""Check for unfinished work after the samples, and garbage collection."""

CERTIFICATE_S = 13.0
"""The short certificate of one framework."""


def expected_s(settings: Scale, cells: Sequence[Cell], cold: bool | None = None) -> float:
    """Return seconds of a run of these cells.

    `cold`: the compile cache is empty; None: as the cells say.
    """
    first = cells[0]
    framework = registry.FRAMEWORKS.get(first.framework)
    seconds = START_S + (framework.load_s if framework else OTHER_LOAD_S)
    if first.engine.kind == "device":
        seconds += DEVICE_ENGINE_S
    if first.mode != "eager":
        empty_s, filled_s = _compile_s(first.framework)
        is_empty = first.cache == "cold" if cold is None else cold
        seconds += empty_s if is_empty else filled_s
    for cell in cells:
        seconds += _first_call_s(cell) + _measure_s(settings.effort, cell)
    return seconds


def once_s(cell: Cell, results: Sequence[Result], first: bool) -> float:
    """Return the seconds of a run that the next run of its cells does not need.

    These are the memory series and, if it was the first in this compile cache (`first`), the part
    of its first calls that filled the cache.
    """
    phases = [result["phases_s"] for result in results]
    seconds = sum(phase.get("memory", 0.0) for phase in phases)
    cold_s, warm_s = _compile_s(cell.framework)
    if first and cell.mode != "eager" and cell.cache == "warm" and cold_s > warm_s:
        first_calls_s = sum(phase.get("first_call", 0.0) for phase in phases)
        seconds += (1 - warm_s / cold_s) * first_calls_s
    return seconds


def _compile_s(framework: str) -> tuple[float, float]:
    """Return seconds to compile all probes of a process, with an empty and with a filled cache."""
    row = registry.FRAMEWORKS.get(framework)
    return (row and row.compile_s) or (0.0, 0.0)


def _first_call_s(cell: Cell) -> float:
    """Return seconds of the first call that are not shared with other probes of the process."""
    row = registry.FRAMEWORKS.get(cell.framework)
    compiles_each_probe = row is not None and row.compile_s is None
    if not compiles_each_probe or cell.mode == "eager":
        return FIRST_CALL_S
    probe = PROBES.get(cell.probe)  # tests have probes of their own
    if probe is None:
        return PROBES["update"].trace_s
    if cell.loop == "fused" and probe.in_loop and probe.learns:
        return FUSED_TRAIN_S
    return probe.trace_s


def _call_s(cell: Cell) -> float:
    """Return seconds of one call; where compiling is the work, each call compiles."""
    probe = PROBES.get(cell.probe, PROBES["rebuild"])
    if probe.compiles and cell.mode != "eager":
        return probe.call_s + probe.trace_s
    return probe.call_s


def _measure_s(effort: Effort, cell: Cell) -> float:
    """Return seconds of warm-up, calibration, samples and memory series of one probe."""
    call_s = _call_s(cell)
    sample_s = max(call_s, effort.sample_s)
    least_s = max(effort.samples * sample_s, effort.steady_s)
    most_s = max(effort.longest_s, 3 * sample_s)
    warmup_s = min(effort.silent_calls * call_s, effort.warmup_s)
    calibration_s = 2 * sample_s
    memory_s = effort.memory_calls * call_s
    return warmup_s + calibration_s + STEADY * min(least_s, most_s) + IDLE_CHECK_S + memory_s


class Forecast(NamedTuple):
    """Runs, blocks and time of a plan. A warm cache is empty in the first block."""

    visits_per_block: int
    """Runs in a block."""
    least_blocks: int
    most_blocks: int
    certificate_s: float | None
    """Seconds of the certificate; None if there is one of unknown duration."""
    calibration_s: float
    first_block_s: float
    block_s: float
    """Seconds of each later block."""
    least_s: float
    most_s: float


def forecast(plan: Plan, unavailable: Collection[str] = ()) -> Forecast:
    """Return runs, blocks and time of a plan, without the cells whose ids are `unavailable`."""
    settings = plan.settings
    runs = []
    for interleaving in plan.block(0):
        for run in interleaving:
            if not {cell.id for cell in run.cells} & set(unavailable):
                runs.append(run)

    first_s = sum(expected_s(settings, run.cells, cold=True) for run in runs)
    later_s = sum(expected_s(settings, run.cells) for run in runs)
    calibration_s = first_s if settings.calibration else 0.0
    certificate_s = _certificate_s(plan, runs)
    start_s = (certificate_s or 0.0) + calibration_s
    blocks_s = [later_s if settings.calibration else first_s]
    blocks_s += [later_s] * (settings.blocks - 1)

    most = _blocks_in_time(settings, start_s, blocks_s)
    least = min(settings.stages[0], most) if settings.stages else most
    return Forecast(
        visits_per_block=len(runs),
        least_blocks=least,
        most_blocks=most,
        certificate_s=certificate_s,
        calibration_s=calibration_s,
        first_block_s=blocks_s[0],
        block_s=later_s,
        least_s=start_s + sum(blocks_s[:least]),
        most_s=start_s + sum(blocks_s[:most]),
    )


def certificate_s(algorithms: Collection[str], frameworks: Collection[str]) -> float:
    """Return seconds of a short certificate."""
    return CERTIFICATE_S * len(algorithms) * len(frameworks)


def _certificate_s(plan: Plan, runs: Sequence[Run]) -> float | None:
    if not plan.settings.certificate:
        return 0.0
    if plan.scale == "full":
        return None
    raced = {(cell.algorithm, cell.framework) for run in runs for cell in run.cells}
    return CERTIFICATE_S * sum(framework in registry.FRAMEWORKS for _, framework in raced)


def _blocks_in_time(settings: Scale, start_s: float, blocks_s: Sequence[float]) -> int:
    """Return how many blocks the manager will start within its limits."""
    spent_s = start_s + blocks_s[0]
    for index, block_s in enumerate(blocks_s[1:], 1):
        limit_s = settings.limit_s if index < settings.least_blocks else settings.budget_s
        if limit_s is not None and spent_s + block_s > limit_s:
            return index
        spent_s += block_s
    return len(blocks_s)
