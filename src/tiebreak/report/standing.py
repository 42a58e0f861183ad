"""Cluster the cells of a group by their verdicts: level, slower, or not placed yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from tiebreak import registry
from tiebreak.stats.summaries import CellSummary, Comparison, GroupSummary

LEVEL = 0.10
"""Cells are level if no difference above this share is possible and none was shown."""
CLOSE = 0.05
"""They are level even if a difference was shown, if none above this share is possible."""
NEARLY = 0.15
"""Slower cells of one library are named together if they differ by at most this share."""

Confidence = Literal["TIE", "SURE", "LIKELY", "UNKNOWN"]
"""TIE: different libraries are level. SURE: all others are slower. LIKELY: they are by their own
intervals, but not once these are corrected for the number of comparisons. UNKNOWN: neither."""


class Cluster(NamedTuple):
    """Cells that are named together."""

    cells: tuple[CellSummary, ...]
    """Fastest first."""
    lead: Comparison
    """Speed of the leader relative to the first of them: above 1."""


class Standing(NamedTuple):
    """How the cells of a group stand to each other."""

    confidence: Confidence
    level: tuple[CellSummary, ...]
    """The leader and the cells that are level with it; empty without a leader."""
    within: float | None
    """Share by which cells that are level may differ at most; None for one cell or one block."""
    slower: tuple[Cluster, ...]
    """Fastest first."""
    unplaced: tuple[CellSummary, ...]
    """Cells of which more blocks would have to show where they stand."""
    barred: tuple[CellSummary, ...]
    """Cells with a validity flag, which take part in nothing."""
    lost: CellSummary | None
    """The cell that all would be compared with, if it did not finish or is barred."""

    @property
    def leader(self) -> CellSummary | None:
        """The fastest cell."""
        return self.level[0] if self.level else None


def standing(group: GroupSummary) -> Standing:
    """Cluster the cells of a group."""
    finished = [cell for cell in group.cells if cell.seconds_per_unit]
    leader = group.find(group.leader)
    rivals = [cell for cell in finished if cell.versus_leader and cell is not leader]
    level = [cell for cell in rivals if _is_level(cell)]
    slower = [cell for cell in rivals if cell not in level and _verdict(cell) == "SLOWER"]
    unplaced = [cell for cell in rivals if cell not in level and cell not in slower]
    leading = (leader, *level) if leader else ()
    return Standing(
        confidence=_confidence(leading, slower, unplaced),
        level=leading,
        within=max((_bound(cell) for cell in level), default=None),
        slower=tuple(_clusters(slower)),
        unplaced=tuple(unplaced),
        barred=tuple(cell for cell in finished if cell.barred),
        lost=_lost_reference(group),
    )


def family(cell: CellSummary) -> str:
    """Return the library under a cell, or its label if it is none of ours."""
    framework = registry.FRAMEWORKS.get(cell.cell["framework"])
    return framework.library(str(cell.cell["mode"])) if framework else cell.label


def _is_level(cell: CellSummary) -> bool:
    bound = _bound(cell)
    return bound <= CLOSE or (bound <= LEVEL and _verdict(cell) != "SLOWER")


def _bound(cell: CellSummary) -> float:
    comparison = cell.versus_leader
    return float("inf") if comparison is None or comparison.bound is None else comparison.bound


def _verdict(cell: CellSummary) -> str:
    return cell.versus_leader.verdict if cell.versus_leader else ""


def _clusters(slower: Sequence[CellSummary]) -> list[Cluster]:
    """Put cells together that follow one another, of one library and nearly of one speed."""
    clusters: list[Cluster] = []
    for cell in slower:
        assert cell.versus_leader
        lead = cell.versus_leader.inverted()
        last = clusters[-1] if clusters else None
        together = (
            last is not None
            and family(last.cells[0]) == family(cell)
            and lead.ratio <= last.lead.ratio * (1 + NEARLY)
        )
        if last and together:
            clusters[-1] = Cluster((*last.cells, cell), last.lead)
        else:
            clusters.append(Cluster((cell,), lead))
    return clusters


def _confidence(
    leading: Sequence[CellSummary], slower: Sequence[CellSummary], unplaced: Sequence[CellSummary]
) -> Confidence:
    others = [*slower, *unplaced]
    if not leading or not (others or len(leading) > 1):
        return "UNKNOWN"
    if len(_sides(leading, [*leading, *others])) > 1:
        return "TIE"
    rivals = [cell for cell in unplaced if family(cell) != family(leading[0])]
    if len({family(cell) for cell in [*leading, *others]}) == 1:
        rivals = list(unplaced)
    if not rivals:
        return "SURE"
    return "LIKELY" if all(_seems_slower(cell) for cell in rivals) else "UNKNOWN"


def _sides(cells: Sequence[CellSummary], group: Sequence[CellSummary]) -> set[str]:
    """Return the libraries of cells; their labels if the whole group is of one library."""
    if len({family(cell) for cell in group}) > 1:
        return {family(cell) for cell in cells}
    return {cell.label for cell in cells}


def _seems_slower(cell: CellSummary) -> bool:
    """Return True if the cell's own interval, not corrected for others, has it slower."""
    comparison = cell.versus_leader
    return comparison is not None and comparison.high is not None and comparison.high < 1


def _lost_reference(group: GroupSummary) -> CellSummary | None:
    """Return the cell that would be the reference by default, if it cannot be."""
    first = min(group.cells, key=lambda c: (c.cell["framework"] != "torch", c.label))
    is_torch = first.cell["framework"] == "torch"
    return first if is_torch and (not first.visits or first.barred) else None
