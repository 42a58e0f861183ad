"""Numbers as text: sizes, durations, ratios with their intervals. Nothing here knows a cell."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tiebreak.stats.summaries import Comparison

DASH = "–"


def join(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def ratio(comparison: Comparison) -> str:
    """`3.1× [2.8, 3.4]`, or `3.1×` for one block."""
    low, high = comparison.low, comparison.high
    if low is None or high is None:
        return times(comparison.ratio)
    digits = _digits(comparison.ratio, low, high)
    return f"{comparison.ratio:.{digits}f}× [{_bound(low, digits)}, {_bound(high, digits)}]"


def bootstrap(comparison: Comparison) -> str:
    """`[2.8, 3.4]`."""
    low, high = comparison.bootstrap_low, comparison.bootstrap_high
    if low is None or high is None:
        return DASH
    digits = _digits(comparison.ratio, low, high)
    return f"[{_bound(low, digits)}, {_bound(high, digits)}]"


def times(value: float) -> str:
    """`3.10×`."""
    return f"{value:.{_digits(value)}f}×"


def _digits(value: float, low: float = 0.0, high: float = math.inf) -> int:
    """Two decimals below 10, a third where the interval would vanish, none from 100."""
    if value >= 100:
        return 0
    if value >= 10:
        return 1
    return 3 if high - low < 0.01 else 2


def _bound(value: float, digits: int) -> str:
    if value >= 1000:
        return ">1000"
    return f"{value:.0f}" if value >= 100 else f"{value:.{digits}f}"


def plural(count: int, noun: str) -> str:
    """`1 block`, `3 blocks`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def rate(per_s: float | None, unit: str = "") -> str:
    """`149k env steps/s`."""
    if per_s is None:
        return DASH
    return f"{si(per_s)} {unit}/s" if unit else f"{si(per_s)}/s"


def si(value: float) -> str:
    """Three significant digits with k, M, G: `149k`, `2.51k`, `86.0`."""
    for factor, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * factor:
            return f"{_three(value / factor)}{suffix}"
    return _three(value)


def duration(seconds: float | None) -> str:
    """`6.71 µs`, `2.40 s`, `7.5 min`."""
    if seconds is None:
        return DASH
    for factor, suffix in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * factor:
            return f"{seconds / factor:.1f} {suffix}"
    for factor, suffix in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= 0.9995 * factor:
            return f"{_three(seconds / factor)} {suffix}"
    return f"{_three(seconds / 1e-9)} ns"


def size(count: float | None) -> str:
    """`412 MB`, `1.20 GB`, `-3.1 kB`."""
    if count is None:
        return DASH
    for factor, suffix in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(count) >= 0.9995 * factor:
            return f"{'-' if count < 0 else ''}{_three(abs(count) / factor)} {suffix}"
    return f"{count:.0f} B"


def share(value: float | None) -> str:
    """A fraction as a percentage: `4.2 %`; large ones as a factor: `12×`."""
    if value is None:
        return DASH
    if value >= 999:
        return "> 1000×"
    return f"{value + 1:.0f}×" if value >= 9 else f"{100 * value:.1f} %"


def _three(value: float) -> str:
    return (
        f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
    )
