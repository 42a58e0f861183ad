"""Findings as text: the same phrases in the terminal and on the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tiebreak.bench.probe_table import PROBES
from tiebreak.core.text import plural
from tiebreak.registry import ENGINES, FRAMEWORKS
from tiebreak.report.formatting import DASH, join, rate, ratio, share
from tiebreak.stats.summaries import DRIFT, CellSummary, Comparison, Failure, GroupSummary

MISSING = "missing: "
"""Prefix of a failure's reason if a package or device that the cell needs is not here."""


def name(summary: CellSummary) -> str:
    """Return the cell's label and, where it matters, how its loop runs: `nnx split · fused`."""
    loop = _loop(summary.cell)
    if not loop or loop in summary.label:
        return summary.label
    return f"{summary.label} · {loop}"


def _loop(cell: Mapping[str, Any]) -> str:
    """Return `fused`, `host`, or `bridge` (a device engine used by another array library).

    Empty for host engines, which have only one kind of loop.
    """
    engine = ENGINES.get(str(cell.get("task")).partition("/")[0])
    probe = PROBES.get(str(cell.get("probe")))
    if probe is None or not probe.in_loop or not cell.get("loop") or not engine:
        return ""
    if engine.kind == "host":
        return ""
    framework = FRAMEWORKS.get(cell["framework"])
    other_library = framework and framework.runtime != "jax"
    return "bridge" if other_library and cell["loop"] == "host" else str(cell["loop"])


def headline(group: GroupSummary) -> str:
    """Say who is fastest in a group, and how sure that is. Never names a flagged cell."""
    leader = group.find(group.leader)
    if leader is None:
        return f"No headline: {_why_no_leader(group)}."
    rivals = [c for c in group.cells if c.versus_leader]
    if not rivals:
        return f"{name(leader)}: {rate(leader.units_per_s, group.unit)}; nothing to compare with."

    rival = next((c for c in rivals if c.cell_id == group.reference), rivals[0])
    slower = [c for c in rivals if _verdict_versus_leader(c) == "SLOWER"]
    undecided = [c for c in rivals if c not in slower and c is not rival]
    claim = _claim(_leader_versus(rival), rival, alone=len(slower) == len(rivals))
    return f"{name(leader)} {claim}{_ties(undecided)}{_scope(group)}."


def why_absent(group: GroupSummary) -> str:
    """Return what all cells of a group need and this machine lacks; empty if any could run."""
    reasons = {f.reason for c in group.cells for f in c.failures}
    if any(c.visits for c in group.cells) or len(reasons) != 1:
        return ""
    reason = reasons.pop()
    return reason.removeprefix(MISSING) if reason.startswith(MISSING) else ""


def absent_groups(groups: Sequence[GroupSummary]) -> list[str]:
    """Return a line for every reason why groups could not run here at all."""
    reasons = Counter(filter(None, map(why_absent, groups)))
    return [f"{plural(n, 'group')} could not run here: {why}" for why, n in reasons.items()]


def _why_no_leader(group: GroupSummary) -> str:
    flags = sorted({f.name for c in group.cells for f in c.flags})
    if not flags:
        return "no cell finished"
    clean = [c for c in _finished(group) if not c.flags]
    which = f"but {name(clean[0])}" if clean else "that finished"
    return f"every cell {which} is flagged ({', '.join(flags)})"


def _scope(group: GroupSummary) -> str:
    """Say that flagged cells are left out of a claim, if there are any."""
    finished = _finished(group)
    clean = [c for c in finished if not c.flags]
    if len(clean) == len(finished):
        return ""
    return f" (of the {len(clean)} cells without a flag; {len(finished)} finished)"


def _finished(group: GroupSummary) -> list[CellSummary]:
    return [c for c in group.cells if c.seconds_per_unit]


def _leader_versus(rival: CellSummary) -> Comparison:
    assert rival.versus_leader is not None
    return rival.versus_leader.inverted()


def _claim(comparison: Comparison, rival: CellSummary, alone: bool) -> str:
    """Describe the leader's lead over one rival, no stronger than the verdict allows.

    alone: True if all other cells are slower.
    """
    factor = f"{ratio(comparison)} as fast as {name(rival)}"
    if comparison.verdict == "FASTER":
        return f"is {'' if alone else 'among the '}fastest: {factor}"
    if comparison.verdict == "SAME":
        return f"and {name(rival)} are equally fast within 2 %"
    if comparison.ratio < 1:  # medians of paired ratios are not transitive (docs/decisions/0030)
        return f"came out first against the reference, but is {factor} when compared directly"
    if comparison.low is not None and comparison.low > 1:
        blocks = plural(comparison.blocks, "block")
        return f"came out first, {factor}, which {blocks} do not make certain"
    return f"came out first, {factor}, but the difference is not certain"


def _ties(others: Sequence[CellSummary]) -> str:
    """Return `; linen jit: the same within 2 %; equinox flat: no certain difference`."""
    text = ""
    phrases = {"SAME": "the same within 2 %", "AMBIGUOUS": "no certain difference"}
    for verdict, phrase in phrases.items():
        names = [name(c) for c in others if _verdict_versus_leader(c) == verdict]
        if names:
            text += f"; {join(names)}: {phrase}"
    return text


def _verdict_versus_leader(summary: CellSummary) -> str:
    return summary.versus_leader.verdict if summary.versus_leader else ""


def titles(groups: Sequence[GroupSummary]) -> list[str]:
    """Return the names of groups without the parts that all of them share.

    The machine's fingerprint is added if there are several.
    """
    several = len({g.fingerprint for g in groups}) > 1
    parts = []
    for group in groups:
        machine = f" · machine {group.fingerprint[:6]}" if several else ""
        parts.append((group.group + machine).split(" · "))
    shared = set.intersection(*map(set, parts)) if len(parts) > 1 else set()
    return [" · ".join(p for p in own if p not in shared) or " · ".join(own) for own in parts]


def verdict(summary: CellSummary, group: GroupSummary) -> str:
    """Return the verdict against the reference."""
    if summary.cell_id == group.reference:
        return "reference"
    return summary.comparison.verdict if summary.comparison else DASH


def confidence(group: GroupSummary) -> str:
    """Return the number of blocks, the width of the intervals, and the detectable difference."""
    blocks = plural(group.blocks, "block")
    values = [c.comparison.detectable for c in group.cells if c.comparison]
    detectable = [x for x in values if x is not None]
    if not detectable and group.blocks > 1:
        return f"{blocks}, but no two in which a cell and the reference finished: no interval"
    if not detectable:
        return f"{blocks}: no interval and no verdict without a second one"
    width = f"; intervals within ±{share(group.half_width)}" if group.half_width else ""
    return (
        f"{blocks}{width}; a difference of {share(max(detectable))} "
        "would have been seen four times in five"
    )


def drift(group: GroupSummary) -> str:
    """Say how much canaries changed within a block; empty if little, or if there are none."""
    if group.drift is None or group.drift <= DRIFT:
        return ""
    return (
        f"drift: a canary changed by {share(group.drift)} within a block; ratios paired within "
        "blocks survive that, absolute values do not"
    )


def failure(failure: Failure) -> str:
    """Return `crash: worker ended by signal 9 (blocks 0, 3–9)`."""
    word = "block" if len(failure.blocks) == 1 else "blocks"
    return f"{failure.reason} ({word} {_ranges(failure.blocks)})"


def _ranges(numbers: Sequence[int]) -> str:
    """Return increasing numbers with three and more in a row as a range: `0, 3–9`."""
    rows: list[list[int]] = []
    for number in numbers:
        if rows and number == rows[-1][-1] + 1:
            rows[-1].append(number)
        else:
            rows.append([number])
    parts = [f"{r[0]}–{r[-1]}" if len(r) > 2 else ", ".join(map(str, r)) for r in rows]
    return ", ".join(parts)
