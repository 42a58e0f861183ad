"""How a run was laid out in time, as lines of text: blocks, stages, canaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiebreak.report import phrases
from tiebreak.stats.summaries import GroupSummary

Lines = list[tuple[str, str]]


def lines(
    suite: Mapping[str, Any], groups: Sequence[GroupSummary], records: Sequence[Mapping[str, Any]]
) -> Lines:
    """(what, how it was) for a run's page; nothing where nothing was visited."""
    visits = [r for r in records if r["kind"] == "visit"]
    if not visits:
        return []
    made = len({(r["run_id"], r["block"]) for r in visits})
    planned = f"{made} of {suite.get('blocks_planned', 'unknown')} planned blocks"
    out = [("schedule", f"{planned}, order drawn from seed {suite.get('seed', 'unknown')}")]
    settings = suite.get("settings") or {}
    if stages := settings.get("stages"):
        out.append(("stages", _stages(stages, settings.get("half_width"))))
    if len({g.blocks for g in groups}) > 1:
        each = zip(phrases.titles(groups), groups, strict=True)
        out.append(("blocks", "; ".join(f"{title}: {g.blocks}" for title, g in each)))
    return out + _canaries(records)


def _stages(stages: Sequence[int], half_width: float | None) -> str:
    steps = ", ".join(map(str, stages))
    wide = f"±{phrases.share(half_width)}" if half_width else "asked for"
    return f"{steps} blocks: on to the next while an interval is wider than {wide}"


def _canaries(records: Sequence[Mapping[str, Any]]) -> Lines:
    """How far each canary moved over the run: the machine's own unrest."""
    values: dict[str, list[float]] = {}
    for r in records:
        if r["kind"] == "canary":
            for name, seconds in r["values_s"].items():
                values.setdefault(name, []).append(seconds)
    about = "(a fixed piece of work before and after each block; nothing is rescaled by it)"
    return [
        (
            f"canary, {name.replace('_', ' ')}",
            f"{phrases.duration(min(v))} to {phrases.duration(max(v))} {about}",
        )
        for name, v in values.items()
    ]
