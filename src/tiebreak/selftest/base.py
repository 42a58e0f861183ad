"""Define what a check of the self-test receives and returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

SCALES = ("smoke", "quick", "full")
"""smoke: does it run at all? quick: about a tenth of the full counts. full: published counts."""


class Outcome(NamedTuple):
    """Result of a check."""

    passed: bool | None
    """None if the check could not be run; `detail` gives the reason."""
    measured: dict[str, Any]
    """The few numbers that the rule is about, as JSON."""
    detail: str
    """One line for people."""
    raw: dict[str, Any] = {}  # noqa: RUF012  read only
    """Data that the numbers were computed from; raw samples stay in the check's folder."""


@dataclass
class Context:
    """Settings of a check, and where it may write."""

    folder: Path
    """The check's own folder, below the results folder; it exists."""
    scale: str
    """One of SCALES."""
    seed: int
    say: Callable[[str], None]
    """Print one line of progress."""

    def count(self, smoke: int, quick: int, full: int) -> int:
        """Return the number for this scale."""
        return {"smoke": smoke, "quick": quick, "full": full}[self.scale]
