"""Keep the tables and numbers of Markdown documents equal to the records that they are made from.

    python -m tiebreak.report.documents README.md results/*/README.md
    python -m tiebreak.report.documents --check README.md

A table stands between two comments, of which the first says what it shows; folders are relative to
results/. Everything between them is replaced:

    <!-- table: race amd-epyc-2-cores/quick probe=train -->
    <!-- end of table -->

Numbers within sentences are links whose definitions name an entry of such a table
(inline_numbers.py).
"""

from __future__ import annotations

import functools
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.files import write_atomic
from tiebreak.report import (
    bench_tables,
    devices_tables,
    inline_numbers,
    learning_evidence,
    metrics_tables,
    training_tables,
)

BLOCK = re.compile(
    r"^<!-- table: (?P<spec>[^\n]*?) -->\n(?P<body>.*?)^<!-- end of table -->$", re.M | re.S
)
KINDS = {
    **bench_tables.KINDS,
    **training_tables.KINDS,
    **metrics_tables.KINDS,
    **learning_evidence.KINDS,
    **devices_tables.KINDS,
}
"""Name of a kind of table -> function of results/, its arguments and its options, to lines."""


def render(text: str, results: Path) -> str:
    """Return a document with every table and number made anew from the records below `results`.

    Raises UsageError for a table or a number that is not known, and for a comment without its end.
    """
    if len(BLOCK.findall(text)) != text.count("<!-- table:"):
        raise UsageError("a table has no end: add a line <!-- end of table -->")

    @functools.cache
    def make_table(spec: str) -> list[str]:
        return _table(spec, results)

    def replace(match: re.Match[str]) -> str:
        lines = "\n".join(make_table(match["spec"]))
        return f"<!-- table: {match['spec']} -->\n{lines}\n<!-- end of table -->"

    return inline_numbers.render(BLOCK.sub(replace, text), make_table)


def prose(text: str) -> str:
    """Return what of a document is written by hand: without tables and numbers of records."""
    return inline_numbers.without_numbers(BLOCK.sub("", text))


def _table(spec: str, results: Path) -> list[str]:
    """Return the lines of a table, by the words of its comment."""
    kind, *words = shlex.split(spec)
    if kind not in KINDS:
        raise unknown("kind of table", kind, KINDS)
    options = dict(word.split("=", 1) for word in words if "=" in word)
    paths = [word for word in words if "=" not in word]
    return list(KINDS[kind](results, paths, options))


def main(arguments: Sequence[str]) -> int:
    """Rewrite documents; with --check only name those that differ, and return 1 if any does."""
    check = "--check" in arguments
    differing = []
    for path in [Path(word) for word in arguments if word != "--check"]:
        text = path.read_text(encoding="utf-8")
        new = render(text, _results(path))
        if new != text:
            differing.append(str(path))
            if not check:
                write_atomic(path, new.encode())
    if check and differing:
        print(f"tables differ from their records: {', '.join(differing)}; run `make tables`")
        return 1
    return 0


def _results(document: Path) -> Path:
    """Return the folder results/ of the repository that a document belongs to."""
    for folder in document.resolve().parents:
        if (folder / "results").is_dir():
            return folder / "results"
    raise UsageError(f"there is no folder results/ beside {str(document)!r} or above it")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
