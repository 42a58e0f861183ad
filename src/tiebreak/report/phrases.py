"""Findings in words: the same text in the terminal and on the page.

Whoever writes numbers, too, finds the functions of `numbers` and `flags` here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tiebreak.bench.probe_table import PROBES
from tiebreak.registry import ENGINES, FRAMEWORKS
from tiebreak.report.flags import flag_value, flags, glossary, meaning
from tiebreak.report.formatting import (
    DASH,
    bootstrap,
    duration,
    join,
    plural,
    rate,
    ratio,
    share,
    si,
    size,
    times,
)
from tiebreak.stats.summaries import DRIFT, CellSummary, Comparison, Failure, GroupSummary

__all__ = [
    "DASH", "absent", "bootstrap", "confidence", "duration", "failure", "flag_value", "flags",
    "glossary", "headline", "join", "meaning", "name", "not_here", "plural", "rate", "ratio",
    "share", "si", "size", "times", "titles", "unrest", "verdict",
]  # fmt: skip
MISSING = "missing: "
"""How the reason begins for which a visit was not made: what it needs is not here."""


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
    probe = PROBES.get(str(cell.get("probe")))
    if probe is None or not probe.in_loop or not cell.get("loop") or not engine:
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
        return f"No headline: {_why_none(group)}."
    rivals = [c for c in group.cells if c.versus_leader]
    if not rivals:
        return f"{name(leader)}: {rate(leader.units_per_s, group.unit)}; nothing to compare with."
    rival = next((c for c in rivals if c.cell_id == group.reference), rivals[0])
    told = [c for c in rivals if _verdict(c) == "SLOWER"]
    others = [c for c in rivals if c not in told and c is not rival]
    claim = _claim(_seen_from_leader(rival), rival, alone=len(told) == len(rivals))
    return f"{name(leader)} {claim}{_ties(others)}{_left_out(group)}."


def absent(group: GroupSummary) -> str:
    """What all cells of a group need and this machine does not have; empty where one could run."""
    reasons = {f.reason for c in group.cells for f in c.failures}
    if any(c.visits for c in group.cells) or len(reasons) != 1:
        return ""
    reason = reasons.pop()
    return reason.removeprefix(MISSING) if reason.startswith(MISSING) else ""


def not_here(groups: Sequence[GroupSummary]) -> list[str]:
    """A line for every reason why groups could not run here at all."""
    reasons = Counter(filter(None, map(absent, groups)))
    return [f"{plural(n, 'group')} could not run here: {why}" for why, n in reasons.items()]


def _why_none(group: GroupSummary) -> str:
    found = sorted({f.name for c in group.cells for f in c.flags})
    if not found:
        return "no cell finished"
    _, clean = _finished(group)
    which = f"but {name(clean[0])}" if clean else "that finished"
    return f"every cell {which} is flagged ({', '.join(found)})"


def _left_out(group: GroupSummary) -> str:
    """Whom a claim is not about."""
    finished, clean = _finished(group)
    if len(clean) == len(finished):
        return ""
    return f" (of the {len(clean)} cells without a flag; {len(finished)} finished)"


def _finished(group: GroupSummary) -> tuple[list[CellSummary], list[CellSummary]]:
    """The cells that finished, and those of them without a flag."""
    finished = [c for c in group.cells if c.seconds_per_unit]
    return finished, [c for c in finished if not c.flags]


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
    if found.ratio < 1:  # medians of neighbours' ratios are not transitive (docs/decisions/0030)
        return f"came out first against the reference, but {factor} beside it"
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


def verdict(summary: CellSummary, group: GroupSummary) -> str:
    """The verdict against the reference."""
    if summary.cell_id == group.reference:
        return "reference"
    return summary.comparison.verdict if summary.comparison else DASH


def confidence(group: GroupSummary) -> str:
    """How many blocks there are, how sure they make, and how small a difference would show."""
    blocks = plural(group.blocks, "block")
    seen = [c.comparison.detectable for c in group.cells if c.comparison]
    known = [x for x in seen if x is not None]
    if not known and group.blocks > 1:
        return f"{blocks}, but no two in which a cell and the reference finished: no interval"
    if not known:
        return f"{blocks}: no interval and no verdict without a second one"
    width = f"; intervals within ±{share(group.half_width)}" if group.half_width else ""
    return (
        f"{blocks}{width}; a difference of {share(max(known))} "
        "would have been seen four times in five"
    )


def unrest(group: GroupSummary) -> str:
    """What the canaries saw, where it is worth a line; empty where they were quiet or absent."""
    if group.drift is None or group.drift <= DRIFT:
        return ""
    moved = f"a canary moved by {share(group.drift)} within a block"
    return f"drift: {moved}; ratios carry that, absolute values do not"


def failure(found: Failure) -> str:
    """`crash: worker ended by signal 9 (blocks 0, 3–9)`."""
    word = "block" if len(found.blocks) == 1 else "blocks"
    return f"{found.reason} ({word} {_ranges(found.blocks)})"


def _ranges(numbers: Sequence[int]) -> str:
    """`0, 3–9`: rising numbers, three and more in a row as one range."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = [f"{r[0]}–{r[-1]}" if len(r) > 2 else ", ".join(map(str, r)) for r in runs]
    return ", ".join(parts)
