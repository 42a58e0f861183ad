"""Decide which runs of a plan are still to be made, from the records that are stored.

Measuring goes on in stages until intervals are narrow (docs/decisions/0015). Only the width of an
interval decides, never its position: a run that stopped at the first favourable interval would
report too many differences.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tiebreak.bench.record import Record
from tiebreak.bench.suite.plan import Plan, Run, Scale
from tiebreak.stats.ratios import summarize

Done = Collection[tuple[int, str]]
"""(block, cell id) of every stored measurement."""


def stages(settings: Scale) -> list[range]:
    """Return the blocks of each stage; one stage where a scale has none."""
    ends = settings.stages or (settings.blocks,)
    starts = (0, *ends[:-1])
    return [range(start, end) for start, end in zip(starts, ends, strict=True)]


def pending_runs(
    plan: Plan, block: int, done: Done, closed: Collection[str] = ()
) -> list[list[Run]]:
    """Return the interleavings of a block without cells that are done and without closed groups.

    An interleaving of several groups is closed when all of its groups are.
    """
    interleavings = []
    for runs in plan.block(block):
        groups = {cell.group for run in runs for cell in run.cells}
        if closed and groups <= set(closed):
            continue
        remaining = []
        for run in runs:
            cells = tuple(cell for cell in run.cells if (block, cell.id) not in done)
            if cells:
                remaining.append(run._replace(cells=cells))
        if remaining:
            interleavings.append(remaining)
    return interleavings


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
