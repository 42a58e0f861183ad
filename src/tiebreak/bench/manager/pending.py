"""What of a plan is still to be done, going by what is stored; and whether it needs doing.

Measuring goes on in stages until intervals are narrow (docs/decisions/0015): how wide an interval
is decides, and what it says never does, or else a run would stop at the first lucky streak.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tiebreak.bench.manager.record import Record
from tiebreak.bench.suite.plan import Plan, Scale, Visit
from tiebreak.stats.ratios import summarize

Done = Collection[tuple[int, str]]
"""(block, cell) of every measurement stored."""


def stages(settings: Scale) -> list[range]:
    """The blocks of each stage; all in one where a scale has no stages."""
    ends = settings.stages or (settings.blocks,)
    return [range(start, end) for start, end in zip((0, *ends[:-1]), ends, strict=True)]


def pending(plan: Plan, block: int, done: Done, closed: Collection[str] = ()) -> list[list[Visit]]:
    """What is left of a block: as `Plan.block`, without what is done or closed.

    A set of groups that share processes is closed when all of its groups are.
    """
    out = []
    for visits in plan.block(block):
        groups = {cell.group for visit in visits for cell in visit.cells}
        left = [
            v._replace(cells=tuple(c for c in v.cells if (block, c.id) not in done)) for v in visits
        ]
        if not closed or not groups <= set(closed):
            out.append([visit for visit in left if visit.cells])
    return [visits for visits in out if visits]


def parts(visits: Sequence[Visit]) -> list[list[Visit]]:
    """The visits that are made together, in turns: all of a set, or each alone on an accelerator.

    There all of them would have to fit into its memory, most of which JAX takes at once.
    """
    if any(cell.device != "cpu" for visit in visits for cell in visit.cells):
        return [[visit] for visit in visits]
    return [list(visits)]


def narrow(plan: Plan, records: Sequence[Record], blocks: int) -> set[str]:
    """Groups whose every interval, after so many blocks, is as narrow as the plan wants it.

    Only records of these blocks count, so that a resumed run decides as the first one did. A group
    without an interval (one cell, or one that works) has nothing that more blocks would narrow.
    """
    seen = [r for r in records if r["kind"] == "visit" and r["block"] < blocks]
    wide = {
        summary.group
        for summary in summarize(seen)
        if summary.half_width is not None and summary.half_width > plan.settings.half_width
    }
    return plan.groups().keys() - wide
