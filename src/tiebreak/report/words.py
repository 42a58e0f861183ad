"""Numbers in words: the same text in the terminal and on the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tiebreak.registry import ENGINES, FRAMEWORKS
from tiebreak.stats.summaries import CellSummary, Comparison, Failure, GroupSummary

DASH = "–"
LOOP_PROBES = ("interact", "breakdown", "train", "population", "learn")
"""Probes for which it matters who drives the environment."""


def name(summary: CellSummary) -> str:
    """`nnx split · fused`: the cell's label and, where it matters, how it is driven."""
    driven = _loop(summary.cell)
    if not driven or driven in summary.label:
        return summary.label
    return f"{summary.label} · {driven}"


def _loop(cell: Mapping[str, Any]) -> str:
    """`fused`, `host`, or `bridge` (a device engine shown to another library).

    Nothing on host engines, where there is but one way.
    """
    engine = ENGINES.get(str(cell.get("task")).partition("/")[0])
    if cell.get("probe") not in LOOP_PROBES or not cell.get("loop") or not engine:
        return ""
    if engine.kind == "host":
        return ""
    framework = FRAMEWORKS.get(cell["framework"])
    foreign = framework and framework.runtime != "jax"
    return "bridge" if foreign and cell["loop"] == "host" else str(cell["loop"])


def headline(group: GroupSummary) -> str:
    """Who is fastest in a group, and how sure that is. Flagged cells are never named."""
    leader = group.find(group.leader)
    if leader is None:
        found = sorted({f.name for c in group.cells for f in c.flags})
        why = f"every cell that finished is flagged ({', '.join(found)})"
        return f"No headline: {why if found else 'no cell finished'}."
    rivals = [c for c in group.cells if c.versus_leader]
    if not rivals:
        return f"{name(leader)}: {rate(leader.units_per_s, group.unit)}; nothing to compare with."
    rival = next((c for c in rivals if c.cell_id == group.reference), rivals[0])
    told = [c for c in rivals if _verdict(c) == "SLOWER"]
    others = [c for c in rivals if c not in told and c is not rival]
    claim = _claim(_seen_from_leader(rival), rival, alone=len(told) == len(rivals))
    return f"{name(leader)} {claim}{_ties(others)}."


def _seen_from_leader(rival: CellSummary) -> Comparison:
    assert rival.versus_leader is not None
    return rival.versus_leader.inverted()


def _claim(found: Comparison, rival: CellSummary, alone: bool) -> str:
    """What is said of the leader, no stronger than what was found against one rival allows."""
    factor = f"{ratio(found)} as fast as {name(rival)}"
    if found.verdict == "FASTER":
        return f"is {'' if alone else 'among the '}fastest: {factor}"
    if found.verdict == "SAME":
        return f"and {name(rival)} are equally fast within 2 %"
    if found.low is not None and found.low > 1:
        return (
            f"came out first, {factor}, which {plural(found.blocks, 'block')} do not make certain"
        )
    return f"came out first, {factor}, but the two are not told apart"


def _ties(others: Sequence[CellSummary]) -> str:
    """`; linen jit: the same within 2 %; equinox flat: not told apart`."""
    parts = ""
    for verdict, words in (("SAME", "the same within 2 %"), ("AMBIGUOUS", "not told apart")):
        names = [name(c) for c in others if _verdict(c) == verdict]
        if names:
            parts += f"; {join(names)}: {words}"
    return parts


def _verdict(summary: CellSummary) -> str:
    return summary.versus_leader.verdict if summary.versus_leader else ""


def titles(groups: Sequence[GroupSummary]) -> list[str]:
    """Names of groups without the parts that all share; with the machine, if there are several."""
    several = len({g.fingerprint for g in groups}) > 1
    marks = [f" · machine {g.fingerprint[:6]}" if several else "" for g in groups]
    parts = [(g.group + mark).split(" · ") for g, mark in zip(groups, marks, strict=True)]
    shared = set.intersection(*map(set, parts)) if len(parts) > 1 else set()
    return [" · ".join(p for p in own if p not in shared) or " · ".join(own) for own in parts]


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


def verdict(summary: CellSummary, group: GroupSummary) -> str:
    """The verdict against the reference."""
    if summary.cell_id == group.reference:
        return "reference"
    return summary.comparison.verdict if summary.comparison else DASH


def confidence(group: GroupSummary) -> str:
    """How many blocks there are and how small a difference they would have shown."""
    seen = [c.comparison.detectable for c in group.cells if c.comparison]
    known = [x for x in seen if x is not None]
    if not known:
        return f"{plural(group.blocks, 'block')}: no interval and no verdict without a second one"
    return (
        f"{plural(group.blocks, 'block')}; a difference of {share(max(known))} "
        "would have been seen four times in five"
    )


def failure(found: Failure) -> str:
    """`crash: worker ended by signal 9 (blocks 0, 3)`."""
    word = "block" if len(found.blocks) == 1 else "blocks"
    return f"{found.reason} ({word} {', '.join(map(str, found.blocks))})"


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
    """`6.71 µs`, `2.40 s`."""
    if seconds is None:
        return DASH
    for factor, suffix in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= 0.9995 * factor:
            return f"{_three(seconds / factor)} {suffix}"
    return f"{_three(seconds / 1e-9)} ns"


def size(count: int | None) -> str:
    """`412 MB`, `1.20 GB`."""
    if count is None:
        return DASH
    return f"{count / 1e6:.0f} MB" if count < 0.9995e9 else f"{_three(count / 1e9)} GB"


def share(value: float | None) -> str:
    """A fraction as a percentage: `4.2 %`; large ones as a factor: `12×`."""
    if value is None:
        return DASH
    if value >= 999:
        return "> 1000×"
    return f"{value + 1:.0f}×" if value >= 9 else f"{100 * value:.1f} %"


def flags(summary: CellSummary) -> str:
    """`recompiled 2, noisy 0.081 (3 of 5 visits)`."""
    return ", ".join(
        f.name
        + flag_value(f.value)
        + (f" ({f.visits} of {summary.visits} visits)" if f.visits < summary.visits else "")
        for f in summary.flags
    )


def flag_value(value: Any) -> str:
    """A flag's measured value, with a space before it; nothing for a bare True."""
    if value is True or value in (None, ""):
        return ""
    return f" {value:.3g}" if isinstance(value, float) else f" {value}"


def _three(value: float) -> str:
    return (
        f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
    )
