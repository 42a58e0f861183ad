"""Flags for how the samples of one visit scatter, each with its measured value."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

NOISY, UNSTEADY = 0.10, 0.10
"""Flag when the samples' spread (1.4826 MAD / median), or the step from the median of their first
half to that of their second, is larger. Starting values; see docs/decisions."""

TAIL_SPREADS, TAIL_SHARE, TAIL = 5.0, 0.10, 0.05
"""A sample is in the tail that exceeds the median by 5 spreads and by 10 % of it; a heavy tail
holds at least two samples, and more than 5 % of them."""


def noise(samples: Sequence[float]) -> dict[str, float]:
    """`noisy`, `unsteady` and `heavy_tail`, those of them that apply."""
    out: dict[str, float] = {}
    middle = statistics.median(samples)
    if (spread := _spread(samples)) > NOISY:
        out["noisy"] = round(spread, 4)
    half = len(samples) // 2
    if half >= 3:
        step = statistics.median(samples[half:]) / statistics.median(samples[:half]) - 1
        chance = 2 * 1.77 * spread / math.sqrt(half)  # two standard errors of that difference
        if abs(step) > max(UNSTEADY, chance):
            out["unsteady"] = round(step, 4)
    limit = middle * (1 + max(TAIL_SPREADS * spread, TAIL_SHARE))
    late = sum(seconds > limit for seconds in samples)
    if late >= 2 and late / len(samples) > TAIL:
        out["heavy_tail"] = round(late / len(samples), 4)
    return out


def _spread(samples: Sequence[float]) -> float:
    middle = statistics.median(samples)
    return 1.4826 * statistics.median(abs(s - middle) for s in samples) / middle
