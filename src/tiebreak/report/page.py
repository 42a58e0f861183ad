"""Arrange what was read from results folders into what the page shows, in its order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tiebreak.core.text import plural
from tiebreak.report import (
    answer,
    cross_tables,
    flags,
    machines,
    memory,
    phrases,
    published,
    selftests,
)
from tiebreak.report.answer import Answer, Card, sentence
from tiebreak.report.bars import START_UP, Bar, BarChart, start_up_bars, time_chart
from tiebreak.report.cross_tables import CrossTable
from tiebreak.report.heat import HeatTable, heat_tables, mode_words, tasks, words
from tiebreak.report.machines import AcrossMachines
from tiebreak.report.page_data import CallTimes, Facts, PageData
from tiebreak.stats.summaries import GroupSummary

OPEN_CARDS = 8
"""Sentences about more tasks than these are folded away,"""
OPEN_CHARTS = 4
"""and so are charts."""

CONFIDENCE = {
    "TIE": "different libraries are level",
    "SURE": "all others are slower",
    "LIKELY": "all others look slower, but not certainly once their number is allowed for",
    "UNKNOWN": "this run cannot tell",
}
"""Meaning of a card's badge."""

Badge = tuple[str, str]
"""(good, warn or bad; text)."""


class GroupView(NamedTuple):
    """One group with everything that its details show."""

    title: str
    headline: str
    group: GroupSummary
    probe: str
    measures: str
    modes: list[tuple[str, str]]
    """(mode, what it does) of the modes in the group."""
    two_level: bool
    """True if any interval rests on rounds, too: Student's then stands beside it."""
    leaks: str
    per_thousand: str
    phases: dict[str, tuple[Bar, ...]]
    """{cell_id: its start-up}."""
    live: bool
    """True if a library tells how much memory it holds."""
    sparks: dict[str, str]
    """{cell_id: points of its memory, call by call}."""
    calls: dict[str, CallTimes]
    """{cell_id: its first calls}."""
    judged: set[str]
    """Cells whose memory series is long enough to tell growth from chance."""
    sources: str


class FolderView(NamedTuple):
    """One results folder as the page shows it."""

    id: str
    data: PageData
    title: str
    facts: tuple[str, ...]
    """Algorithm, machine, date, blocks."""
    charts: tuple[tuple[Card, BarChart], ...]
    heat: tuple[HeatTable, ...]
    groups: tuple[GroupView, ...]
    absent_groups: tuple[str, ...]
    unfinished: str
    times: tuple[tuple[str, ...], ...]
    """Rows of the answer's own table, as the terminal prints it."""
    cross_tables: tuple[CrossTable, ...]
    badges: Facts
    """(badge, its meaning) of those that occur."""
    trust: tuple[Badge, ...]
    how: Facts
    glossary: Facts
    """(flag, meaning) of the flags that occur."""


class Page(NamedTuple):
    """The whole page."""

    title: str
    kicker: tuple[str, ...]
    folders: tuple[FolderView, ...]
    across: AcrossMachines | None
    """What is shown instead of charts of each folder, if several machines raced."""
    version: str
    open_cards: int = OPEN_CARDS
    open_charts: int = OPEN_CHARTS
    confidence: tuple[tuple[str, str], ...] = tuple(CONFIDENCE.items())
    start_up: tuple[tuple[str, str], ...] = tuple(START_UP.items())
    """(phase, its name) of what happens before the first sample."""


def arrange(folders: Sequence[PageData]) -> Page:
    """Return the page of folders that were read."""
    views = tuple(_folder_view(data, number) for number, data in enumerate(folders))
    raced = [view for view in views if view.groups] or [views[0]]
    columns = len(machines.columns(raced))
    several = len(raced) > 1 or columns > 1
    return Page(
        title=_title(raced),
        kicker=_kicker(raced, columns),
        folders=views,
        across=machines.across(raced) if several else None,
        version=str(folders[0].suite["version"]),
    )


def _kicker(views: Sequence[FolderView], columns: int) -> tuple[str, ...]:
    """Return what stands above the title: facts of one machine, or how many there are."""
    if len(views) > 1:
        return (f"{len(views)} results, never pooled",)
    if columns > 1:
        return (f"{columns} machines, never pooled", *views[0].facts)
    return views[0].facts


def _title(views: Sequence[FolderView]) -> str:
    """Return the answer of one machine; of several, their times."""
    columns = len(machines.columns(views))
    if len(views) == 1 and columns < 2:
        return views[0].title
    sides = f"{len(views)} results" if len(views) > 1 else f"{columns} machines"
    return machines.fastest(views) or f"{sides} side by side"


def _folder_view(data: PageData, number: int) -> FolderView:
    shown = [group for group in data.groups if not phrases.why_absent(group)] or data.groups
    groups = tuple(
        _group_view(data, group, data.name_machines(title))
        for group, title in zip(shown, tasks(shown), strict=True)
    )
    return FolderView(
        id=f"run{number}",
        data=data,
        title=data.answer.title if data.groups else _stopwatch_title(data),
        facts=tuple(_facts(data)),
        charts=tuple(_charts(data.answer)),
        heat=tuple(heat_tables(data.groups)),
        groups=groups,
        absent_groups=tuple(phrases.absent_groups(data.groups)),
        unfinished=_unfinished(data),
        times=tuple(answer.table(data.answer)),
        cross_tables=tuple(_cross_tables(data)),
        badges=_badges(data.answer),
        trust=tuple(_trust(data)),
        how=_how(data),
        glossary=flags.glossary(flags.flag_names(data.groups)),
    )


def _cross_tables(data: PageData) -> Iterator[CrossTable]:
    """Yield the tables across groups, those of each machine by itself."""
    machines = dict.fromkeys(group.fingerprint for group in data.groups)
    for machine in machines:
        groups = [group for group in data.groups if group.fingerprint == machine]
        tables = cross_tables.cross_tables(groups)
        tables += published.cross_tables(groups, data.suite.get("published", []))
        for table in tables:
            name = data.name_machines(phrases.machine(machine))
            title = f"{table.title} · {name}" if len(machines) > 1 else table.title
            yield table._replace(title=title)


def _charts(answered: Answer) -> list[tuple[Card, BarChart]]:
    """Draw every card; tasks of one name are told apart by the rest of their group's name."""
    cards = [card for card in answered.cards if card.times]
    names = [card.title for card in cards]
    if len(set(names)) < len(names):
        names = tasks([card.group for card in cards])
    return [(card, time_chart(name, card)) for name, card in zip(names, cards, strict=True)]


def _badges(answered: Answer) -> Facts:
    used = {card.confidence for card in answered.cards}
    return [(name, meaning) for name, meaning in CONFIDENCE.items() if name in used]


def _facts(data: PageData) -> list[str]:
    algorithms = dict.fromkeys(g.cells[0].cell["algorithm"] for g in data.groups)
    blocks = max((group.blocks for group in data.groups), default=0)
    return [
        *(name.upper() for name in algorithms),
        data.machine_title,
        data.first_at[:10],
        *([plural(blocks, "block")] if blocks else []),
    ]


def _stopwatch_title(data: PageData) -> str:
    """Return what a self-test found."""
    failed = sum(check.passed is False for check in data.checks)
    passed = sum(check.passed is True for check in data.checks)
    if failed:
        return f"The stopwatch failed {failed} of its {len(data.checks)} tests."
    return f"The stopwatch passed {passed} of its {len(data.checks)} tests."


def _unfinished(data: PageData) -> str:
    missed = data.visits - data.finished
    if not missed:
        return ""
    return f"{missed} of {plural(data.visits, 'run')} did not finish; the reasons are below."


_PROOF = {True: ("good", "✓ "), False: ("bad", "✗ "), None: ("warn", "")}
"""Kind and mark of what a certificate proves, by whether it is green."""


def _trust(data: PageData) -> list[Badge]:
    """Return what is known of the equality of the programs, the stopwatch and the cells."""
    badges = []
    if data.groups:
        kind, mark = _PROOF[data.certificate.green if data.certificate else None]
        proof = data.answer.proof.replace("`", "")
        badges += [(kind, mark + proof), selftests.badge(data.machine_test)]
    for result, kind in (("passed", "good"), ("failed", "bad"), ("skipped", "warn")):
        if count := sum(check.result == result for check in data.checks):
            badges.append((kind, f"{plural(count, 'check')} {result}"))
    barred = sum(bool(cell.barred) for group in data.groups for cell in group.cells)
    if barred:
        badges.append(("bad", f"⚑ {plural(barred, 'cell')} kept out of conclusions"))
    return badges


def _how(data: PageData) -> Facts:
    suite = data.suite
    facts = [
        ("command", str(suite["command"])),
        ("suite", f"{suite['suite']} at scale {suite['scale']}"),
        ("version", f"{suite['version']}, commit {suite['commit'] or 'unknown'}"),
        ("date", f"{data.first_at} to {data.last_at}"),
        *data.schedule,
    ]
    if data.groups:
        facts.append(("stopwatch", selftests.describe(data.machine_test)))
    return facts


def _group_view(data: PageData, group: GroupSummary, title: str) -> GroupView:
    series = []
    for cell in group.cells:
        key = (group.group, group.fingerprint, cell.cell_id)
        if key in data.memory:
            series.append((cell, data.memory[key]))
    all_judged = bool(series) and all(one.judged for _, one in series)
    probe = str(group.cells[0].cell["probe"])
    plain, measures = words(probe)
    return GroupView(
        title=f"{title}: {plain}",
        headline=sentence(group),
        group=group,
        probe=probe,
        measures=measures,
        modes=mode_words(group.cells),
        two_level=any(c.comparison and c.comparison.method == "two-level" for c in group.cells),
        leaks=memory.leaks(group, all_judged),
        per_thousand=cross_tables.per_thousand(group),
        phases=start_up_bars(group),
        live=any(cell.live_bytes is not None for cell in group.cells),
        sparks=memory.sparks(series),
        calls={
            cell.cell_id: data.calls[key]
            for cell in group.cells
            if (key := (group.group, group.fingerprint, cell.cell_id)) in data.calls
        },
        judged={cell.cell_id for cell, one in series if one.judged},
        sources=memory.sources(series),
    )
