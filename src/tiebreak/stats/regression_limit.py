"""Whether a candidate may pass: what got slower by more than a limit, what broke, what is open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tiebreak.core.errors import UsageError
from tiebreak.stats.compare import Compared, Pair
from tiebreak.stats.intervals import MARGIN


class Gate(NamedTuple):
    """What a limit says of a comparison. A cell that broke is in no other list."""

    limit: float
    slower: Sequence[Pair]
    """Verdict SLOWER, and by more than the limit as far as the estimate goes."""
    broke: Sequence[Pair]
    """Worked in A and not once in B; a package that B lacks is no excuse."""
    blind: Sequence[Pair]
    """Those in which a slowdown of the limit's size would have been missed."""

    @property
    def passed(self) -> bool:
        """Whether nothing is known to be worse."""
        return not self.slower and not self.broke


def parse(text: str) -> float:
    """`3%` or `0.03` -> 0.03; UsageError for anything that is no share from 2 % to 100 %."""
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


def gate(compared: Compared, limit: float) -> Gate:
    """Sort the cells that are in both folders."""
    broke = [p for p in compared.pairs if p.broke]
    slower = [p for p in compared.judged if _slower(p) and (p.slowdown or 0) > limit]
    rest = [p for p in compared.pairs if p.a.visits and p not in broke and p not in slower]
    seeing = [p for p in compared.judged if p.change and (p.change.detectable or 1) <= limit]
    return Gate(limit, slower, broke, [p for p in rest if p not in seeing])


def _slower(pair: Pair) -> bool:
    return pair.change is not None and pair.change.verdict == "SLOWER"
