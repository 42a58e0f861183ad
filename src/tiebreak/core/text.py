"""Values as text and JSON: durations and counts for people, errors in one line, NaN as null."""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Sequence
from typing import Any


def duration(seconds: float) -> str:
    """Return an estimate or a waiting time for people: `0.4 s`, `40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 10:
        return f"{round(seconds, 1):g} s"
    if seconds < 90:
        return f"{seconds:.0f} s"

    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: `1 block`, `3 blocks`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


BARS = "▁▂▃▄▅▆▇█"
"""Characters of a sparkline, lowest first."""


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """Return numbers as bars of text, at most `width` of them; NaN is left out.

    Each bar stands for neighbouring numbers, by their mean, between the lowest and the highest.
    """
    known = [value for value in values if value == value]
    count = min(width, len(known))
    cuts = [round(i * len(known) / count) for i in range(count + 1)] if count else []
    means = [sum(known[a:b]) / (b - a) for a, b in itertools.pairwise(cuts)]
    low, high = min(means, default=0.0), max(means, default=0.0)
    step = (high - low) / (len(BARS) - 1)
    return "".join(BARS[round((mean - low) / step)] if step else BARS[0] for mean in means)


def is_printable(text: str) -> bool:
    """Return True if a text can be shown: no control characters but line breaks and tabs.

    Escape sequences steer a terminal, marks of direction reorder a line, and lone surrogates cannot
    be written.
    """
    return text.isprintable() or printable(text) == text


def printable(text: str) -> str:
    """Return text of a file or a program with `\ufffd` for what is not `is_printable`.

    All that is printed of foreign files passes here, or was refused by core/schema.py.
    """
    return "".join(c if c in "\n\t" or not _steers(c) else "\ufffd" for c in text)


def _steers(character: str) -> bool:
    """Return True for control and format characters, surrogates and separators of lines."""
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def one_line(value: Any) -> str:
    """Return the text of an error, or of any other value, on one printable line."""
    return printable(" ".join(str(value).split()))


def quoted(value: Any, most: int = 200) -> str:
    """Return what a user has given, as Python would write it, cut at `most` characters."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def nan_to_null(value: Any) -> Any:
    """Return `value` with NaN and infinities, which JSON cannot represent, replaced by None.

    Dictionaries, lists, tuples and NamedTuples are searched at any depth; NamedTuples become
    dictionaries, other tuples lists.
    """
    if isinstance(value, dict):
        return {str(key): nan_to_null(item) for key, item in value.items()}
    if hasattr(value, "_asdict"):
        return nan_to_null(value._asdict())
    if isinstance(value, (list, tuple)):
        return [nan_to_null(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
