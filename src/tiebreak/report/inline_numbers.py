"""Keep the numbers within sentences equal to the tables of records in which they stand.

A number is the text of a link, which leads to its records. The title of the link's definition says
where the number stands: in which table, row and column, and which part of that entry it is.

    Linen is [13.1× [12.7, 13.5]][lead] as fast.

    [lead]: ../results/m/README.md#quick
      "number: race m/quick probe=train | linen jit | gymnax/CartPole-v1 | ratio"

A row is named by one of its entries, or by several, joined by ` & `. A part is a name in PARTS or a
pattern with one group, `/pooled (.*%)/`; without one the whole entry is taken. `number: quotient A
B` and `number: share A B` compute from two other numbers of the document.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from tiebreak.core.errors import UsageError, unknown
from tiebreak.report.formatting import factor, percent
from tiebreak.report.markdown import read_tables

DEFINITION = re.compile(
    r'^\[(?P<name>[\w-]+)\]:\s+\S+\s+"number: (?P<spec>[^"\n]+)"$', re.MULTILINE
)
USE = re.compile(r"\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\[(?P<name>[\w-]+)\]")
PARTS = {
    "value": r"^([^,(⚑]*[^,(⚑ ])",
    "factor": r"([\d.]+×)",
    "ratio": r"([\d.]+× \[[^\]]*\])",
}
"""Part of an entry such as `154k, 13.1× [12.6, 13.6] (fused)` -> pattern."""
COMPUTED = {"quotient": factor, "share": percent}
"""Kind of number that is computed from two others -> how their quotient is written."""
AMOUNT = re.compile(r"^(\d[\d.]*)\s?(k|M|G|ns|µs|ms|s|min|h|)(?!\w)")
UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
UNITS |= {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}


def render(text: str, make_table: Callable[[str], Sequence[str]]) -> str:
    """Return a document with every number made anew.

    Args:
      text: the document.
      make_table: function of the words of a table to its lines.

    Raises UsageError for a definition that no sentence uses, or that names no single entry.
    """
    specs = {match["name"]: match["spec"] for match in DEFINITION.finditer(text)}
    numbers = _Numbers(specs, make_table)

    def replace(match: re.Match[str]) -> str:
        name = match["name"]
        return f"[{numbers.text(name)}][{name}]" if name in specs else match[0]

    rendered = USE.sub(replace, text)
    if unused := sorted(specs.keys() - numbers.used):
        raise UsageError(f"no sentence has the number {', '.join(unused)}: remove its definition")
    return rendered


def without_numbers(text: str) -> str:
    """Return a document without its numbers and their definitions."""
    names = {match["name"] for match in DEFINITION.finditer(text)}
    kept = USE.sub(lambda match: "" if match["name"] in names else match[0], text)
    return DEFINITION.sub("", kept)


class _Numbers:
    """The numbers that a document defines."""

    def __init__(self, specs: Mapping[str, str], make_table: Callable[[str], Sequence[str]]):
        self.used: set[str] = set()
        self._specs = specs
        self._make_table = make_table
        self._tables: dict[str, list[list[list[str]]]] = {}

    def text(self, name: str) -> str:
        """Return a number as its sentence has it."""
        if name not in self._specs:
            raise unknown("number", name, self._specs)
        self.used.add(name)
        spec = self._specs[name]
        kind, *operands = spec.split()
        if kind not in COMPUTED:
            return self._entry(name, spec)
        if len(operands) != 2:
            raise UsageError(f"number {name!r}: {kind} takes two names, got {operands}")
        first, second = (_amount(operand, self.text(operand)) for operand in operands)
        return COMPUTED[kind](first / second)

    def _entry(self, name: str, spec: str) -> str:
        """Return an entry of a table, or the part of it that is asked for."""
        pieces = [piece.strip() for piece in spec.split(" | ")]
        if len(pieces) not in (3, 4):
            raise UsageError(f"number {name!r}: write TABLE | ROW | COLUMN or … | PART")
        words, row, column = pieces[:3]
        if words not in self._tables:
            self._tables[words] = read_tables(self._make_table(words))
        found = [
            entries[headings.index(column)]
            for headings, *rows in self._tables[words]
            if headings.count(column) == 1
            for entries in rows
            if set(row.split(" & ")) <= set(entries)
        ]
        if len(found) != 1:
            raise UsageError(f"number {name!r}: {len(found)} entries of {words!r} have that place")
        return _part(name, found[0], pieces[3]) if len(pieces) == 4 else found[0]


def _part(name: str, entry: str, part: str) -> str:
    pattern = part[1:-1] if part.startswith("/") else PARTS.get(part)
    if pattern is None:
        raise unknown("part of a number", part, PARTS)
    match = re.search(pattern, entry)
    if match is None:
        raise UsageError(f"number {name!r}: {entry!r} has no {part}")
    return match[1]


def _amount(name: str, text: str) -> float:
    """Return what `154k`, `3.74 ms` or `13.1× [12.6, 13.6]` amounts to, in units or seconds."""
    match = AMOUNT.match(text)
    if match is None:
        raise UsageError(f"number {name!r}: cannot compute with {text!r}")
    return float(match[1]) * UNITS[match[2]]
