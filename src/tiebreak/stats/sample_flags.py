"""Flag samples of one run that scatter, each flag with its measured value."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

NOISY = 0.10
"""Flag `noisy` above this spread: 1.4826 MAD / median. A starting value; see docs/decisions."""
UNSTEADY = 0.10
"""Flag `unsteady` above this relative step from the median of the first half of the samples to
that of the second half."""

TAIL_SPREADS = 5.0
"""A sample is in the tail if it exceeds the median by this many spreads,"""
TAIL_SHARE = 0.10
"""and by this share of the median."""
TAIL = 0.05
"""Flag `heavy_tail` if at least two samples, and more than this share of them, are in the tail."""

_MEDIAN_ERROR = 2 * 1.77
"""Two standard errors of the difference between the medians of two halves of n samples each, in
units of spread / sqrt(n): sqrt(2) · 1.2533 = 1.77."""


def sample_flags(samples: Sequence[float]) -> dict[str, float]:
    """Return those of the flags `noisy`, `unsteady` and `heavy_tail` that apply.

    Args:
      samples: positive times, in the order in which they were taken.
    """
    flags: dict[str, float] = {}
    median = statistics.median(samples)
    spread = relative_spread(samples)
    if spread > NOISY:
        flags["noisy"] = round(spread, 4)

    half = len(samples) // 2
    if half >= 3:
        step = statistics.median(samples[half:]) / statistics.median(samples[:half]) - 1
        if abs(step) > max(UNSTEADY, _MEDIAN_ERROR * spread / math.sqrt(half)):
            flags["unsteady"] = round(step, 4)

    limit = median * (1 + max(TAIL_SPREADS * spread, TAIL_SHARE))
    in_tail = sum(seconds > limit for seconds in samples)
    if in_tail >= 2 and in_tail / len(samples) > TAIL:
        flags["heavy_tail"] = round(in_tail / len(samples), 4)
    return flags


def relative_spread(samples: Sequence[float]) -> float:
    """Return 1.4826 MAD / median: a robust estimate of the coefficient of variation."""
    median = statistics.median(samples)
    return 1.4826 * statistics.median(abs(s - median) for s in samples) / median
