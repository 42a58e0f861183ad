"""Numbers as text: times, sizes, shares, ratios with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tiebreak.stats.summaries import Comparison

DASH = "–"
"""Stands in a table where there is no value."""


def join(names: Sequence[str]) -> str:
    """Return `a`, `a and b`, or `a, b and c`."""
    if len(names) == 1:
        return names[0]
    return f"{', '.join(names[:-1])} and {names[-1]}"


def ratio(comparison: Comparison) -> str:
    """Return a ratio with its interval, `3.1× [2.8, 3.4]`; for one block `3.1×`."""
    low, high = comparison.low, comparison.high
    if low is None or high is None:
        return times(comparison.ratio)
    digits = _digits(comparison.ratio, low, high)
    return f"{comparison.ratio:.{digits}f}× [{_bound(low, digits)}, {_bound(high, digits)}]"


def student_interval(comparison: Comparison) -> str:
    """Return Student's interval, of the blocks alone: `[2.8, 3.4]`."""
    low, high = comparison.t_low, comparison.t_high
    if low is None or high is None:
        return DASH
    digits = _digits(comparison.ratio, low, high)
    return f"[{_bound(low, digits)}, {_bound(high, digits)}]"


def interval(comparison: Comparison) -> str:
    """Return the interval of a ratio alone, `[2.8, 3.4]`; empty for one block."""
    if comparison.low is None or comparison.high is None:
        return ""
    digits = 0 if comparison.ratio >= 10 else 2 if comparison.ratio < 1.995 else 1
    return f"[{_bound(comparison.low, digits)}, {_bound(comparison.high, digits)}]"


def factor(value: float) -> str:
    """Return a factor with two digits, for a sentence: `1.04×`, `1.8×`, `11×`, `0.016×`."""
    if value < 0.095:
        return f"{value:.2g}×"
    digits = 2 if value < 1.095 else 1 if value < 9.95 else 0
    return f"{value:.{digits}f}×"


def percent(value: float) -> str:
    """Return a share for a sentence: `0.8 %`, `4 %`; a large one as a factor."""
    if value >= 9:
        return share(value)
    return f"{100 * value:.0f} %" if value >= 0.0095 else f"{100 * value:.1f} %"


def times(value: float) -> str:
    """Return a factor, `3.10×`."""
    return f"{value:.{_digits(value)}f}×"


def amount(value: float) -> str:
    """Return a number of things that are counted in parts, with three digits: `0.85`, `412`."""
    return f"{value:.3g}" if value < 999.5 else si(value)


def _digits(value: float, low: float = 0.0, high: float = math.inf) -> int:
    """Return the decimals: 2 below 10 (3 for a narrow interval), 1 below 100, else none."""
    if value >= 100:
        return 0
    if value >= 10:
        return 1
    return 3 if high - low < 0.01 else 2


def _bound(value: float, digits: int) -> str:
    if value >= 1000:
        return ">1000"
    return f"{value:.0f}" if value >= 100 else f"{value:.{digits}f}"


def rate(per_s: float | None, unit: str = "") -> str:
    """Return a rate, `149k env steps/s`."""
    if per_s is None:
        return DASH
    return f"{si(per_s)} {unit}/s" if unit else f"{si(per_s)}/s"


def si(value: float) -> str:
    """Return three significant digits with k, M or G: `149k`, `2.51k`, `86.0`."""
    for factor, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * factor:
            return f"{_three_digits(value / factor)}{suffix}"
    return _three_digits(value)


def measured_time(seconds: float | None) -> str:
    """Return a measured time with three significant digits: `6.71 µs`, `2.40 s`, `7.5 min`."""
    if seconds is None:
        return DASH
    for factor, suffix in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * factor:
            return f"{seconds / factor:.1f} {suffix}"
    for factor, suffix in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= 0.9995 * factor:
            return f"{_three_digits(seconds / factor)} {suffix}"
    return f"{_three_digits(seconds / 1e-9)} ns"


def about_time(seconds: float | None) -> str:
    """Return a time with two significant digits: `8.4 s`, `62 s`, `1.7 min`, `28 min`, `1.9 h`."""
    if seconds is None:
        return DASH
    for least, factor, unit in (
        (172_800.0, 86_400.0, "days"),
        (5970.0, 3600.0, "h"),
        (99.5, 60.0, "min"),
        (0.995, 1.0, "s"),
        (0.0, 1e-3, "ms"),
    ):
        if seconds >= least:
            value = seconds / factor
            return f"{value:.1f} {unit}" if 0 < value < 9.95 else f"{value:.0f} {unit}"
    return DASH


def size(count: float | None) -> str:
    """Return bytes as `412 MB`, `1.20 GB`, `-3.10 kB`."""
    if count is None:
        return DASH
    for factor, suffix in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(count) >= 0.9995 * factor:
            return f"{'-' if count < 0 else ''}{_three_digits(abs(count) / factor)} {suffix}"
    return f"{count:.0f} B"


def share(value: float | None) -> str:
    """Return a fraction as a percentage, `4.2 %`, and a large one as a factor, `12×`."""
    if value is None:
        return DASH
    if value >= 999:
        return "> 1000×"
    return f"{value + 1:.0f}×" if value >= 9 else f"{100 * value:.1f} %"


def _three_digits(value: float) -> str:
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
