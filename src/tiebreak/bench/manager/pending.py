"""Decide which runs of a plan are still to be made, from the records that are stored.

Measuring goes on in stages, at some scales until intervals are narrow (docs/decisions/0015). Only
the width of an interval decides, never its position: a run that stopped at the first favourable
interval would report too many differences.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from tiebreak.bench.machine.availability import why_unavailable
from tiebreak.bench.record import Record
from tiebreak.bench.suite.plan import Plan, Run, Scale
from tiebreak.stats.ratios import summarize

CONTENDED_SHARE = 0.05
"""Share of the CPU time taken by others above which a block is repeated."""

Done = Collection[tuple[int, str]]
"""(block, cell id) of every stored measurement."""


class Stage(NamedTuple):
    """Blocks after which the manager decides how to go on."""

    blocks: range
    probes: tuple[str, ...] = ()
    """The only probes to measure in them; empty: all."""
    repeats: bool = True
    """Contended blocks are repeated at the end."""


def stages(settings: Scale) -> list[Stage]:
    """Return the stages of a scale: one where it has none and no probes that come first."""
    if settings.first:
        last = min(settings.least_blocks, settings.blocks) - 1
        return [
            Stage(range(last), settings.first, repeats=False),
            Stage(range(last, last + 1)),
            Stage(range(last + 1, settings.blocks)),
            Stage(range(last)),  # the other probes of the first blocks
        ]
    ends = settings.stages or (settings.blocks,)
    starts = (0, *ends[:-1])
    return [Stage(range(start, end)) for start, end in zip(starts, ends, strict=True)]


def pending_runs(
    plan: Plan,
    block: int,
    done: Done,
    closed: Collection[str] = (),
    probes: Collection[str] = (),
) -> list[list[Run]]:
    """Return the interleavings of a block without cells that are done and without closed groups.

    An interleaving of several groups is closed when all of its groups are. `probes` leaves only
    cells of these probes; empty leaves all.
    """
    interleavings = []
    for runs in plan.block(block):
        groups = {cell.group for run in runs for cell in run.cells}
        if closed and groups <= set(closed):
            continue
        remaining = []
        for run in runs:
            cells = tuple(
                cell
                for cell in run.cells
                if (block, cell.id) not in done and (not probes or cell.probe in probes)
            )
            if cells:
                remaining.append(run._replace(cells=cells))
        if remaining:
            interleavings.append(remaining)
    return interleavings


def that_take_time(interleavings: Iterable[list[Run]]) -> list[list[Run]]:
    """Return interleavings without the runs that cannot be made on this machine."""
    made = [[run for run in runs if not why_unavailable(run.cells[0])] for runs in interleavings]
    return [runs for runs in made if runs]


def contended_runs(plan: Plan, records: Sequence[Record], blocks: range) -> list[list[Run]]:
    """Return the interleavings of these blocks in which others took more than CONTENDED_SHARE.

    The most contended one comes first. They hold the cells that were measured in them, and the
    number of the next attempt. Contention alone decides, never a measured time: a rule that depends
    on values would select its result.
    """
    measured = [r for r in records if r["kind"] == "visit" and r["block"] in blocks]
    attempts: dict[tuple[int, str], int] = {}
    for r in measured:
        key = (r["block"], r["cell_id"])
        attempts[key] = max(attempts.get(key, 0), r.get("attempt", 0))
    last = {
        (r["block"], r["cell_id"]): r
        for r in measured
        if r["status"] != "missing" and r.get("attempt", 0) == attempts[r["block"], r["cell_id"]]
    }

    repeated: list[tuple[float, list[Run]]] = []
    for block in blocks:
        for runs in plan.block(block):
            present = [
                run._replace(cells=tuple(c for c in run.cells if (block, c.id) in last))
                for run in runs
            ]
            present = [run for run in present if run.cells]
            found = [last[block, cell.id] for run in present for cell in run.cells]
            share = taken_by_others(found)
            if share > CONTENDED_SHARE:
                attempt = 1 + max(r.get("attempt", 0) for r in found)
                repeated.append((share, [run._replace(attempt=attempt) for run in present]))
    repeated.sort(key=lambda item: -item[0])
    return [runs for _, runs in repeated]


def count_repeats(records: Sequence[Record], runs: Sequence[Run]) -> int:
    """Return how many blocks of the groups of these runs have been repeated."""
    groups = {cell.group for run in runs for cell in run.cells}
    return len({
        (r["block"], r["attempt"])
        for r in records
        if r["kind"] == "visit" and r.get("attempt") and r["group"] in groups
    })  # fmt: skip


def taken_by_others(records: Sequence[Record]) -> float:
    """Return the share of CPU time that other processes and the host took while samples were taken.

    Runs count by the time that they sampled. 0 where the system does not count it.
    """
    taken_s = total_s = 0.0
    for r in records:
        seconds = r.get("phases_s", {}).get("steady", 0.0)
        shares = r.get("contention", {})
        taken_s += seconds * (shares.get("others", 0.0) + shares.get("steal", 0.0))
        total_s += seconds
    return taken_s / total_s if total_s else 0.0


def split_by_device(runs: Sequence[Run]) -> list[list[Run]]:
    """Return the runs that can be interleaved: all of them, or each alone on an accelerator.

    Interleaved runs would all have to fit into its memory, most of which JAX takes at once.
    """
    if any(cell.device != "cpu" for run in runs for cell in run.cells):
        return [[run] for run in runs]
    return [list(runs)]


def narrow_groups(plan: Plan, records: Sequence[Record], blocks: int) -> set[str]:
    """Return the groups all of whose intervals are narrow enough after a number of blocks.

    Only records of these blocks count, so that a resumed run decides as the first one did. A group
    without an interval (one cell, or one that works) has nothing that more blocks would narrow.
    """
    measured = [r for r in records if r["kind"] == "visit" and r["block"] < blocks]
    wide = {
        summary.group
        for summary in summarize(measured)
        if summary.half_width is not None and summary.half_width > plan.settings.half_width
    }
    return plan.groups().keys() - wide
