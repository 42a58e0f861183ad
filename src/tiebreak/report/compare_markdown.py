"""The comparison of two results folders as Markdown, for a comment on a pull request."""

from __future__ import annotations

from collections.abc import Iterator

from tiebreak.core.text import plural
from tiebreak.report import compare_tables
from tiebreak.report.formatting import share
from tiebreak.report.markdown import escape, table
from tiebreak.stats.compare import FolderComparison
from tiebreak.stats.regression_limit import LimitCheck

MARKS = {"SLOWER": "🔴 SLOWER", "FASTER": "🟢 FASTER"}
"""Verdicts that are marked."""


def to_markdown(
    compared: FolderComparison, folders: tuple[str, str], check: LimitCheck | None
) -> str:
    """Return the whole comparison: the answer, tables, and folded away what was compared."""
    lines = [f"### {escape(_headline(compared, check))}", ""]
    for text in compare_tables.conclusions(compared, check):
        lines.append(f"- {escape(text.plain.strip().removeprefix('→ '))}")
    for group in dict.fromkeys(pair.group for pair in compared.pairs):
        lines += ["", *_group(compared, group)]

    lines += ["", "<details><summary>What was compared, and how</summary>", ""]
    rows = compare_tables.overview_rows(compared, folders)
    lines += table(["", "A: baseline", "B: candidate"], [list(map(escape, row)) for row in rows])
    for line in compare_tables.method(compared):
        lines += ["", escape(line)]
    lines += ["", "</details>"]
    return "\n".join(lines) + "\n"


def _headline(compared: FolderComparison, check: LimitCheck | None) -> str:
    """Return one line: what a reader has to know who reads nothing else."""
    slower = [pair for pair in compared.judged if pair.change and pair.change.verdict == "SLOWER"]
    parts = []
    if check:
        limit = share(check.limit)
        parts += [f"{plural(len(check.slower), 'cell')} slower by more than {limit}"]
        parts += [f"{plural(len(check.suspect), 'cell')} UNSURE, perhaps slower"]
    else:
        parts += [f"{plural(len(slower), 'cell')} slower"]
    parts += [f"{plural(sum(pair.broke for pair in compared.pairs), 'cell')} broken"]
    found = [part for part in parts if not part.startswith("0 ")]
    if found:
        return f"Speed: {', '.join(found)}, of {len(compared.pairs)}"
    if not compared.judged:
        return "Speed: no verdicts"
    return f"Speed: nothing known to be slower, of {plural(len(compared.pairs), 'cell')}"


def _group(compared: FolderComparison, group: str) -> Iterator[str]:
    """Yield the lines of a group's table and its notes."""
    pairs = [pair for pair in compared.pairs if pair.group == group]
    headings = [escape(heading) for heading in compare_tables.headings(pairs, compared)]
    rows = []
    for pair in pairs:
        texts = [text.plain for text in compare_tables.row(pair, compared.same_hardware)]
        rows.append([MARKS.get(text) or escape(text) for text in texts])

    align = "".join("l" if heading == "verdict" else "r" for heading in headings[1:])
    yield f"**{escape(group)}**"
    yield ""
    yield from table(headings, rows, f"l{align}")
    for note in compare_tables.notes(pairs, compared):
        yield ""
        yield escape(note.plain.strip())
