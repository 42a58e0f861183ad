"""Divide the blocks of a suite among several runs: each is one share of them, like `2/3`.

A block is never split, because its runs are compared with one another: a share has fewer blocks,
numbered from 0 like those of any run, in an order of its own. Each share is a results folder that
stands by itself; `tiebreak merge` puts them together.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NamedTuple

from tiebreak.bench.suite.plan import Plan, Scale
from tiebreak.core.errors import UsageError
from tiebreak.core.text import quoted

TEXT = re.compile(r"([0-9]{1,4})/([0-9]{1,4})")

LEAST_BLOCKS = 3
"""Blocks that every share has, where the scale has as many: machines with other fingerprints are
never pooled, so that each needs an interval of its own."""


class Share(NamedTuple):
    """One of several parts of a suite's blocks."""

    part: int
    """From 1."""
    of: int

    @classmethod
    def parse(cls, text: str) -> Share:
        """Parse a text like `2/3`."""
        match = TEXT.fullmatch(text)
        share = cls(int(match[1]), int(match[2])) if match else cls(0, 0)
        if not 1 <= share.part <= share.of:
            raise UsageError(
                f"--share takes a part and their number, such as 1/2 and 2/2; got {quoted(text)}"
            )
        return share

    def __str__(self) -> str:
        return f"{self.part}/{self.of}"


def take_share(plan: Plan, share: Share) -> Plan:
    """Return the plan of one share of a plan's blocks; its seed is that of the order of runs."""
    return replace(plan, share=str(share), settings=_divide(plan.settings, share))


def _divide(settings: Scale, share: Share) -> Scale:
    """Return the settings of a share. Together they have at least as many blocks as the whole."""
    if settings.stages:
        ends = sorted({_even(_part(end, settings, share)) for end in settings.stages})
        return replace(settings, stages=tuple(ends), blocks=ends[-1])
    return replace(settings, blocks=_part(settings.blocks, settings, share))


def _part(blocks: int, settings: Scale, share: Share) -> int:
    least = min(settings.blocks, max(settings.least_blocks, LEAST_BLOCKS))
    return max(least, blocks // share.of + (share.part <= blocks % share.of))


def _even(blocks: int) -> int:
    """Return the next even number: odd blocks mirror even ones, and stages end after both."""
    return blocks + blocks % 2
