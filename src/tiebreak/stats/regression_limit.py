"""Check a comparison of two folders against a limit: `tiebreak compare --fail-over`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tiebreak.core.errors import UsageError
from tiebreak.stats.compare import REFERENCE, CellPair, FolderComparison
from tiebreak.stats.intervals import MARGIN


class LimitCheck(NamedTuple):
    """Result of a check. A cell is in one list at most, but for `suspect`, a part of `unsure`."""

    limit: float
    """Largest slowdown that is accepted: 0.03 is 3 %."""
    slower: Sequence[CellPair]
    """Verdict SLOWER, with an estimate above the limit."""
    broke: Sequence[CellPair]
    """Worked in A and not once in B, even if only because B lacks a package."""
    unsure: Sequence[CellPair]
    """Worked in A, and a slowdown beyond the limit is neither shown nor excluded."""
    suspect: Sequence[CellPair]
    """Those of `unsure` that are slower than the limit by their estimate, the slowest first."""

    @property
    def passed(self) -> bool:
        """True if no cell is known to be slower than the limit or broken."""
        return not self.slower and not self.broke


def parse_limit(text: str) -> float:
    """Parse `3%` or `0.03` as 0.03; raise UsageError unless it is between 2 % and 100 %."""
    number, percent, rest = text.strip().partition("%")
    try:
        limit = float(number) / (100 if percent else 1)
    except ValueError:
        limit = -1.0
    if rest or not MARGIN < limit < 1:
        hint = "; differences below 2 % are never called" if 0 <= limit <= MARGIN else ""
        raise UsageError(
            f"--fail-over takes a percentage such as 3% or a share such as 0.03; got {text!r}{hint}"
        )
    return limit


def check_limit(compared: FolderComparison, limit: float) -> LimitCheck:
    """Sort the cells that are in both folders by what the limit says of them."""
    broke = [pair for pair in compared.pairs if pair.broke]
    slower = [pair for pair in compared.judged if _is_slower(pair) and (pair.slowdown or 0) > limit]
    told = [*broke, *slower]
    unsure = [
        pair
        for pair in compared.pairs
        if pair.a.visits and pair not in told and not _is_within(pair, limit)
    ]
    suspect = [pair for pair in unsure if (pair.slowdown or 0) > limit]
    suspect.sort(key=lambda pair: -(pair.slowdown or 0))
    return LimitCheck(limit, slower=slower, broke=broke, unsure=unsure, suspect=suspect)


def _is_slower(pair: CellPair) -> bool:
    return pair.change is not None and pair.change.verdict == "SLOWER"


def _is_within(pair: CellPair, limit: float) -> bool:
    """Return whether the interval excludes a slowdown beyond the limit."""
    if pair.why == REFERENCE:  # what speeds are relative to cannot be slower than itself
        return True
    return not pair.why and pair.slowdown_limit is not None and pair.slowdown_limit <= limit
