"""Markdown as GitHub renders it: tables, and text in which nothing is taken for markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

SPECIAL = re.compile(r"[\\`*_{}\[\]<>#|~$&]")
"""Characters that Markdown, or GitHub's mathematics, may take for markup."""


def escape(text: object) -> str:
    """Return text on one line that is shown as it is.

    `@name` is broken by an entity: GitHub would notify the user of that name.
    """
    line = " ".join(str(text).split())
    escaped = SPECIAL.sub(lambda match: f"\\{match[0]}", line)
    return escaped.replace("@", "&#64;")


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], align: str = "") -> list[str]:
    """Return the lines of a table of cells that are Markdown already.

    Args:
        headings: First row.
        rows: Rows of as many cells.
        align: `l` or `r` for each column; empty: all to the left.
    """
    rule = [":" if side == "r" else "" for side in align.ljust(len(headings), "l")]
    lines = ["| " + " | ".join(headings) + " |", "|" + "|".join(f"---{end}" for end in rule) + "|"]
    for row in rows:
        lines.append("| " + " | ".join(row) + " |")
    return lines


def read_tables(lines: Iterable[str]) -> list[list[list[str]]]:
    """Return the tables among lines that `table` made: headings, then rows, as plain text."""
    tables: list[list[list[str]]] = []
    is_inside = False
    for line in lines:
        if line.startswith("| "):
            if not is_inside:
                tables.append([])
            cells = line.removeprefix("| ").removesuffix(" |").split(" | ")
            tables[-1].append([_unescape(cell) for cell in cells])
        is_inside = line.startswith("|")
    return tables


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text).replace("&#64;", "@")
