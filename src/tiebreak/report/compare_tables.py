"""The comparison of two results folders in the terminal; its parts as text, for Markdown too."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tiebreak.core.text import plural
from tiebreak.report import phrases
from tiebreak.report.formatting import DASH, join, measured_time, ratio, share, si, times
from tiebreak.report.tables import PLAIN_WIDTH, STYLES
from tiebreak.stats.compare import HIDDEN_SHIFT, REFERENCE, CellPair, FolderComparison
from tiebreak.stats.regression_limit import LimitCheck
from tiebreak.stats.result_set import ResultSet
from tiebreak.stats.summaries import CellSummary


def print_compared(
    compared: FolderComparison,
    folders: tuple[str, str],
    check: LimitCheck | None,
    console: Console,
) -> None:
    """Print what differs, a table for every group, and the verdicts."""
    width = console.width
    if not console.is_terminal:
        console.width = max(width, PLAIN_WIDTH)
    try:
        console.print(_overview(compared, folders))
        for line in method(compared):
            console.print(Text(line))
        for group in dict.fromkeys(p.group for p in compared.pairs):
            pairs = [p for p in compared.pairs if p.group == group]
            console.print(Text(f"\n{group}", style="bold"))
            console.print(_table(pairs, compared))
            for note in notes(pairs, compared):
                console.print(note)
        console.print()
        for text in conclusions(compared, check):
            console.print(text)
    finally:
        console.width = width


def conclusions(compared: FolderComparison, check: LimitCheck | None) -> Iterator[Text]:
    """Yield what follows from all cells, and from the limit if there is one."""
    yield from _missing_cells(compared)
    yield from _verdicts(compared)
    if check:
        yield from _limit(check)


def _overview(compared: FolderComparison, folders: tuple[str, str]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("", "A: baseline", "B: candidate"):
        table.add_column(heading, overflow="fold")
    for row in overview_rows(compared, folders):
        table.add_row(*map(Text, row))
    return table


def overview_rows(
    compared: FolderComparison, folders: tuple[str, str]
) -> Iterator[tuple[str, str, str]]:
    """Yield (name, of A, of B): folders, when they were measured, and each fact that differs."""
    yield ("folder", *folders)
    yield ("measured", _measured(compared.a), _measured(compared.b))
    for fact in compared.differences:
        yield (fact.name, fact.a or DASH, fact.b or DASH)


def _measured(results: ResultSet) -> str:
    starts = sorted(str(r.get("started_at", "")) for rows in results.records.values() for r in rows)
    if not starts:
        return DASH
    return f"{starts[0][:16].replace('T', ' ')}, {plural(results.blocks, 'block')}"


def method(compared: FolderComparison) -> Iterator[str]:
    """Explain how the two are compared, and how sure the comparison can be."""
    if not compared.differences:
        yield "Nothing else on record differs: the conditions were the same."
    for name, results in (("A", compared.a), ("B", compared.b)):
        if results.left_out:
            yield (
                f"Left out: {plural(results.left_out, 'visit')} of {name} with another "
                "fingerprint than the others."
            )
    if not compared.same_hardware:
        yield "Different hardware: the values stand side by side, without ratio or verdict."
        return
    shift = share(compared.shift.largest) if compared.shift else "an unknown amount"
    yield (
        "The runs were not interleaved. Going by the canaries (fixed work, timed around every "
        f"block), the machine's own speed changed by {shift} between them. For that, and "
        f"{share(HIDDEN_SHIFT)} for what canaries do not see, each interval is "
        f"{share(compared.allowance)} wider at both ends."
    )
    if compared.relative_to:
        yield (
            f"Ratios are of speeds relative to {compared.relative_to}, paired by block within each "
            "run: whatever changed the speed of the whole machine cancels."
        )
    if compared.obstacle:
        yield (
            f"No verdicts: {compared.obstacle}. Measure again, or use --relative-to with a cell "
            "that the change does not concern."
        )


def _table(pairs: Sequence[CellPair], compared: FolderComparison) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    first, *others = headings(pairs, compared)
    table.add_column(first, min_width=16, overflow="fold")
    for heading in others:
        justify = "left" if heading == "verdict" else "right"
        table.add_column(heading, justify=justify, no_wrap=True)
    for pair in pairs:
        table.add_row(*row(pair, compared.same_hardware))
    return table


def headings(pairs: Sequence[CellPair], compared: FolderComparison) -> list[str]:
    """Return the headings of a group's table; a newline is where a narrow one may break."""
    units = [c.cell["unit"] for pair in pairs for c in (pair.a, pair.b)]
    unit = next(filter(None, units), "units")
    cell = f"cell\n(time per {unit.removesuffix('s')})"
    if compared.same_hardware:
        return [cell, "A", "B", "B as fast as A\n[95 %]", "verdict", "seen\nfrom"]
    return [cell, "A", f"A\n{unit}/s", "B", f"B\n{unit}/s"]


def row(pair: CellPair, same_hardware: bool) -> list[Text]:
    """Return the cells of a table's row, as many as there are headings."""
    flag = "\u00a0⚑" if pair.a.flags or pair.b.flags else ""
    name = Text(phrases.name(pair.a) + flag)
    time_a, time_b = (Text(measured_time(cell.seconds_per_unit)) for cell in (pair.a, pair.b))
    if same_hardware:
        return [name, time_a, time_b, *_change(pair)]
    return [name, time_a, _rate(pair.a), time_b, _rate(pair.b)]


def _rate(cell: CellSummary) -> Text:
    return Text(si(cell.units_per_s) if cell.units_per_s else DASH)


def _change(pair: CellPair) -> list[Text]:
    """Return ratio, verdict, and the smallest change that is detected four times in five."""
    if pair.why == REFERENCE:
        return [Text("1"), Text(REFERENCE, style=STYLES[REFERENCE]), Text(DASH)]
    change = pair.change
    if change is None:
        return [Text(DASH)] * 3
    style = STYLES.get(change.verdict, "yellow")
    detectable = Text(DASH if pair.why else share(change.detectable))
    return [Text(ratio(change)), Text(change.verdict, style=style), detectable]


def notes(pairs: Sequence[CellPair], compared: FolderComparison) -> Iterator[Text]:
    """Say why single cells have no verdict, and what failed in them."""
    for pair in pairs:
        name = phrases.name(pair.a)
        if pair.why not in ("", REFERENCE, compared.obstacle):
            yield Text(f"  {name}: no verdict: {pair.why}", style="yellow")
        for side, cell in (("A", pair.a), ("B", pair.b)):
            for failure in cell.failures:
                yield Text(f"  ✗ {name} in {side}: {phrases.failure(failure)}", style="red")


def _missing_cells(compared: FolderComparison) -> Iterator[Text]:
    """List the cells that are in one folder only."""
    for side, cells in (("A", compared.only_a), ("B", compared.only_b)):
        for group in dict.fromkeys(group for group, _ in cells):
            labels = ", ".join(label for g, label in cells if g == group)
            yield Text(f"  only in {side}: {group}: {labels}", style="yellow")


def _verdicts(compared: FolderComparison) -> Iterator[Text]:
    """List what got slower, faster or broke; count verdicts; say how small a change is detected."""
    by_verdict: dict[str, list[CellPair]] = {}
    for pair in compared.judged:
        by_verdict.setdefault(pair.change.verdict if pair.change else "", []).append(pair)
    relative = f", relative to {compared.relative_to}" if compared.relative_to else ""
    for verdict, phrase in (("SLOWER", "slower in B"), ("FASTER", "faster in B")):
        for pair in by_verdict.get(verdict, []):
            assert pair.change is not None
            text = f"→ {phrase}{relative}: {_name(pair)}: {ratio(pair.change)}"
            yield Text(text, style=STYLES[verdict])
    for pair in compared.pairs:
        if pair.broke:
            yield Text(f"→ failed in B, worked in A: {_name(pair)}", style="red")
    if not compared.judged:
        why = compared.obstacle or "no cell could be judged"
        yield Text(f"→ no verdicts: {why}", style="bold")
        return

    counts = [
        f"{len(by_verdict.get(verdict, []))} {verdict}"
        for verdict in ("SLOWER", "FASTER", "SAME", "AMBIGUOUS")
    ]
    median = statistics.median(p.change.ratio for p in compared.judged if p.change)
    yield Text(
        f"→ of {plural(len(compared.judged), 'cell')} judged: {', '.join(counts)}; in the median, "
        f"B is {times(median)} as fast",
        style="bold",
    )
    detectable = sorted(p.change.detectable or 0.0 for p in compared.judged if p.change)
    span = share(detectable[0])
    if len(detectable) > 1:
        span += f" to {share(detectable[-1])}"
    yield Text(f"  a change of {span}, by cell, would have been seen four times in five", "dim")


def _limit(check: LimitCheck) -> Iterator[Text]:
    """Say what --fail-over found, and what it could not tell."""
    limit = share(check.limit)
    for pair in check.suspect:
        yield Text(f"→ UNSURE, perhaps slower by more than {limit}: {suspicion(pair)}", "bold red")

    others = [_name(pair) for pair in check.unsure if pair not in check.suspect]
    if others:
        cells = join(others) if len(others) < 3 else plural(len(others), "cell")
        yield Text(
            f"→ --fail-over {limit}: a slowdown of that size might have been missed in {cells} "
            "(more blocks on a quieter machine show smaller ones)",
            style="yellow",
        )
    if check.passed:
        text = f"→ --fail-over {limit}: nothing is known to be slower by more, or broken"
        if check.suspect:
            text += f"; {plural(len(check.suspect), 'cell')} UNSURE (--fail-unsure: exit status 3)"
        yield Text(text)


def suspicion(pair: CellPair) -> str:
    """Return a cell that may be slower, its estimate, and why there is no certainty."""
    why = pair.why or "the interval reaches from within the limit to beyond it"
    return f"{_name(pair)} takes {times(1 + (pair.slowdown or 0))} as long, but {why}"


def failure(check: LimitCheck) -> str:
    """Return one line that names every cell which fails the limit."""
    parts = []
    if check.slower:
        slower = [f"{_name(pair)} by {share(pair.slowdown)}" for pair in check.slower]
        parts.append(f"slower by more than {share(check.limit)}: {', '.join(slower)}")
    if check.broke:
        broke = [f"{_name(pair)}, {pair.b.failures[0].reason}" for pair in check.broke]
        parts.append(f"failed in B, worked in A: {', '.join(broke)}")
    return "; ".join(parts)


def unsure(check: LimitCheck) -> str:
    """Return one line that names the cells of which the comparison could not tell."""
    limit = share(check.limit)
    others = [_name(pair) for pair in check.unsure if pair not in check.suspect]
    parts = []
    if check.suspect:
        suspects = "; ".join(suspicion(pair) for pair in check.suspect)
        parts.append(f"perhaps slower by more than {limit}: {suspects}")
    if others:
        parts.append(f"a slowdown of {limit} might have been missed in: {', '.join(others)}")
    return f"unsure: {'; '.join(parts)}"


def _name(pair: CellPair) -> str:
    return f"{phrases.name(pair.a)} ({pair.group})"
