"""Colors of the page and of charts that are written as files."""

from __future__ import annotations

from typing import NamedTuple

from tiebreak.registry import FRAMEWORKS


class Color(NamedTuple):
    """One color on a light and on a dark page."""

    light: str
    dark: str


OTHER = Color("#6b7280", "#9aa3b2")
"""Color of cells without a framework."""

SERIES = {
    **{name: Color(row.color, row.color_dark) for name, row in FRAMEWORKS.items()},
    "other": OTHER,
    "import": Color("#8d99ab", "#7d8899"),
    "build": Color("#5c6f8c", "#a7b3c6"),
    "first_call": Color("#d9662c", "#e88a58"),
    "warmup": Color("#c08a1e", "#e3b65b"),
    "machine-0": Color("#2f62c4", "#7ba4f2"),
    "machine-1": Color("#c2571a", "#ee9460"),
    "machine-2": Color("#1d7f5c", "#4fc79b"),
    "machine-3": Color("#8145a8", "#bd8fdf"),
    "machine-4": Color("#8a6d00", "#d6b84a"),
    "machine-5": Color("#5b6470", "#a8b1bd"),
}
"""Colors of bars, by name: frameworks, phases of a run, machines."""

MACHINES = 6
"""Number of colors for machines; further ones start again."""


def framework_series(framework: str) -> str:
    """Return the name in SERIES of a framework's bars."""
    return framework if framework in FRAMEWORKS else "other"


def machine_series(index: int) -> str:
    """Return the name in SERIES of the bars of a machine."""
    return f"machine-{index % MACHINES}"
