"""Findings as text: the same phrases in the terminal and on the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tiebreak.bench.probe_table import PROBES
from tiebreak.core.text import plural
from tiebreak.registry import ENGINES, FRAMEWORKS
from tiebreak.report.formatting import DASH, share
from tiebreak.stats.summaries import DRIFT, CellSummary, Failure, GroupSummary

NOT_COMPARABLE = "another simulator: not comparable"
"""Said of every ceiling: a cell of another engine that a chart shows as a line."""

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
    other_library = framework and framework.library(str(cell.get("mode"))) != "jax"
    return "bridge" if other_library and cell["loop"] == "host" else str(cell["loop"])


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


def machine(fingerprint: str) -> str:
    """Return the name of a machine of which nothing else is known."""
    return f"machine {fingerprint[:6]}"


def titles(groups: Sequence[GroupSummary]) -> list[str]:
    """Return the names of groups without the parts that all of them share.

    The machine's fingerprint is added if there are several.
    """
    several = len({g.fingerprint for g in groups}) > 1
    parts = []
    for group in groups:
        where = f" · {machine(group.fingerprint)}" if several else ""
        parts.append((group.group + where).split(" · "))
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
    if group.ceiling_of:
        return f"{blocks}; a line in the charts of {', '.join(group.ceiling_of)}"
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
