"""The comparison of two results folders in the terminal: what differs, each cell, what follows."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tiebreak.report import phrases
from tiebreak.report.tables import PLAIN_WIDTH, STYLES
from tiebreak.stats.compare import REFERENCE, UNSEEN, Compared, Pair
from tiebreak.stats.regression_limit import Gate
from tiebreak.stats.result_set import Side

Folders = tuple[str, str]


def print_compared(
    compared: Compared, folders: Folders, gate: Gate | None, console: Console
) -> None:
    """What differs, a table for every group, and what follows. Plain text when not a terminal."""
    width = console.width
    if not console.is_terminal:
        console.width = max(width, PLAIN_WIDTH)
    try:
        console.print(_head(compared, folders))
        for line in _method(compared):
            console.print(Text(line))
        for group in dict.fromkeys(p.group for p in compared.pairs):
            pairs = [p for p in compared.pairs if p.group == group]
            console.print(Text(f"\n{group}", style="bold"))
            console.print(_table(pairs, compared))
            for note in _notes(pairs, compared):
                console.print(note)
        console.print()
        for text in (*_lacking(compared), *_outcome(compared), *(_gate(gate) if gate else ())):
            console.print(text)
    finally:
        console.width = width


def _head(compared: Compared, folders: Folders) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for head in ("", "A: baseline", "B: candidate"):
        table.add_column(head, overflow="fold")
    table.add_row("folder", *map(Text, folders))
    table.add_row("measured", *(_measured(side) for side in (compared.a, compared.b)))
    for fact in compared.differences:
        table.add_row(Text(fact.name), Text(fact.a or phrases.DASH), Text(fact.b or phrases.DASH))
    return table


def _measured(side: Side) -> str:
    starts = sorted(str(r.get("started_at", "")) for rows in side.rows.values() for r in rows)
    blocks = phrases.plural(side.blocks, "block")
    return f"{starts[0][:16].replace('T', ' ')}, {blocks}" if starts else phrases.DASH


def _method(compared: Compared) -> Iterator[str]:
    """How the two are compared, and how sure that is."""
    if not compared.differences:
        yield "Nothing else on record differs: these are two runs of the same."
    for name, side in (("A", compared.a), ("B", compared.b)):
        if side.left_out:
            yield (
                f"Left out: {phrases.plural(side.left_out, 'visit')} of {name} with another "
                "fingerprint than the others."
            )
    if not compared.same_hardware:
        yield "Different hardware: the values stand side by side, without ratio or verdict."
        return
    moved = compared.shift
    far = phrases.share(moved.largest) if moved else "an unknown amount"
    yield (
        "The runs were not interleaved. Going by the canaries (fixed work, timed around every "
        f"block), the machine's own speed moved by {far} between them. For that, and "
        f"{phrases.share(UNSEEN)} for what canaries do not see, each interval is "
        f"{phrases.share(compared.allowance)} wider at both ends."
    )
    if compared.relative_to:
        yield (
            f"Ratios are of speeds relative to {compared.relative_to}, paired by block within each "
            "run: what moved the whole machine cancels."
        )
    if compared.obstacle:
        yield (
            f"No verdicts: {compared.obstacle}. Measure again, or use --relative-to with a cell "
            "that the change does not concern."
        )


def _table(pairs: Sequence[Pair], compared: Compared) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    unit = next((s.cell["unit"] for p in pairs for s in (p.a, p.b) if s.cell["unit"]), "units")
    table.add_column(f"cell\n(time per {unit.removesuffix('s')})", min_width=16, overflow="fold")
    if compared.same_hardware:
        heads = ["A", "B", "B as fast as A\n[95 %]", "verdict", "seen\nfrom"]
    else:
        heads = ["A", f"A\n{unit}/s", "B", f"B\n{unit}/s"]
    for head in heads:
        table.add_column(head, justify="left" if head == "verdict" else "right", no_wrap=True)
    for pair in pairs:
        table.add_row(*_row(pair, compared.same_hardware))
    return table


def _row(pair: Pair, same_hardware: bool) -> list[Text]:
    flagged = "\u00a0⚑" if pair.a.flags or pair.b.flags else ""
    name = Text(phrases.name(pair.a) + flagged)
    times = [Text(phrases.duration(cell.seconds_per_unit)) for cell in (pair.a, pair.b)]
    if same_hardware:
        return [name, *times, *_change(pair)]
    rates = [
        Text(phrases.si(c.units_per_s) if c.units_per_s else phrases.DASH) for c in (pair.a, pair.b)
    ]
    return [name, times[0], rates[0], times[1], rates[1]]


def _change(pair: Pair) -> list[Text]:
    """Ratio, verdict, and the smallest change that would have been seen four times in five."""
    change = pair.change
    if pair.why == REFERENCE:
        return [Text("1"), Text(REFERENCE, style=STYLES[REFERENCE]), Text(phrases.DASH)]
    if change is None:
        return [Text(phrases.DASH)] * 3
    style = STYLES.get(change.verdict, "yellow")
    seen = Text(phrases.DASH if pair.why else phrases.share(change.detectable))
    return [Text(phrases.ratio(change)), Text(change.verdict, style=style), seen]


def _notes(pairs: Sequence[Pair], compared: Compared) -> Iterator[Text]:
    """Why single cells have no verdict, and what failed in them."""
    for pair in pairs:
        name = phrases.name(pair.a)
        if pair.why not in ("", REFERENCE, compared.obstacle):
            yield Text(f"  {name}: no verdict: {pair.why}", style="yellow")
        for side, cell in (("A", pair.a), ("B", pair.b)):
            for failure in cell.failures:
                yield Text(f"  ✗ {name} in {side}: {phrases.failure(failure)}", style="red")


def _lacking(compared: Compared) -> Iterator[Text]:
    for side, cells in (("A", compared.only_a), ("B", compared.only_b)):
        for group in dict.fromkeys(group for group, _ in cells):
            labels = ", ".join(label for g, label in cells if g == group)
            yield Text(f"  only in {side}: {group}: {labels}", style="yellow")


def _outcome(compared: Compared) -> Iterator[Text]:
    """All verdicts, and how small a change would have been seen."""
    found: dict[str, list[Pair]] = {}
    beside = f", relative to {compared.relative_to}" if compared.relative_to else ""
    for pair in compared.judged:
        found.setdefault(pair.change.verdict if pair.change else "", []).append(pair)
    for verdict, told in (("SLOWER", "slower in B"), ("FASTER", "faster in B")):
        for pair in found.get(verdict, []):
            assert pair.change is not None
            text = f"→ {told}{beside}: {_name(pair)}: {phrases.ratio(pair.change)}"
            yield Text(text, style=STYLES[verdict])
    for pair in compared.pairs:
        if pair.broke:
            yield Text(f"→ failed in B, worked in A: {_name(pair)}", style="red")
    if not compared.judged:
        why = compared.obstacle or "no cell could be"
        yield Text(f"→ no verdicts: {why}", style="bold")
        return
    seen = sorted(p.change.detectable or 0.0 for p in compared.judged if p.change)
    span = phrases.share(seen[0]) + (f" to {phrases.share(seen[-1])}" if len(seen) > 1 else "")
    counts = [f"{len(found.get(v, []))} {v}" for v in ("SLOWER", "FASTER", "SAME", "AMBIGUOUS")]
    middle = statistics.median(p.change.ratio for p in compared.judged if p.change)
    yield Text(
        f"→ of {phrases.plural(len(compared.judged), 'cell')} judged: {', '.join(counts)}; the "
        f"middle one is {phrases.times(middle)} as fast",
        style="bold",
    )
    yield Text(f"  a change of {span}, by cell, would have been seen four times in five", "dim")


def _gate(gate: Gate) -> Iterator[Text]:
    """What --fail-over found; what it could not have found is always said."""
    limit = phrases.share(gate.limit)
    if gate.blind:
        names = phrases.join([_name(p) for p in gate.blind])
        which = names if len(gate.blind) < 3 else phrases.plural(len(gate.blind), "cell")
        yield Text(
            f"→ --fail-over {limit}: a slowdown of that size might have been missed in {which} "
            "(more blocks on a quieter machine show smaller ones)",
            style="yellow",
        )
    if gate.passed:
        yield Text(f"→ --fail-over {limit}: nothing is known to be slower by more, or broken")


def failure(gate: Gate) -> str:
    """One line that names every cell which fails the limit."""
    limit = phrases.share(gate.limit)
    parts = [f"{_name(p)} by {phrases.share(p.slowdown)}" for p in gate.slower]
    broke = [f"{_name(p)}, {p.b.failures[0].reason}" for p in gate.broke]
    said = [f"slower by more than {limit}: {', '.join(parts)}"] if parts else []
    return "; ".join(said + ([f"failed in B, worked in A: {', '.join(broke)}"] if broke else []))


def _name(pair: Pair) -> str:
    return f"{phrases.name(pair.a)} ({pair.group})"
