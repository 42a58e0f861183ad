"""Replace comments in Markdown, `<!-- site: KIND WORDS -->`, by what source and records say.

GitHub shows nothing for such a comment; the text around it says where the same can be read there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tiebreak import registry
from tiebreak.commands.settings_table import settings
from tiebreak.report.html import write_report
from tiebreak.report.markdown import escape, table
from website import siblings

ROOT = Path(__file__).resolve().parents[2]
DIRECTIVE = re.compile(r"^<!-- site: (?P<words>[^\n]*?) -->$", re.MULTILINE)


def expand(text: str, folder: Path) -> str:
    """Return a page with every directive replaced; files that it links to go into `folder`."""

    def replace(match: re.Match[str]) -> str:
        kind, *words = match["words"].split()
        return "\n".join(KINDS[kind](folder, *words))

    return DIRECTIVE.sub(replace, text)


def settings_tables(folder: Path) -> Iterator[str]:
    """Yield a section for each algorithm, with the table of its settings."""
    for algorithm in registry.ALGORITHMS:
        rows = [
            [f"`{row.name}`", f"`{_text(row.default)}`", escape(row.meaning)]
            for row in settings(algorithm)
        ]
        yield f"### {algorithm.upper()}"
        yield ""
        yield from table(["setting", "default", "what it is"], rows)
        yield ""


def functions_of(folder: Path, algorithm: str, name: str, *frameworks: str) -> Iterator[str]:
    """Yield one function of an algorithm in the frameworks that are named, side by side."""
    chosen = {key: siblings.implementation(algorithm, key) for key in frameworks}
    href = f"../src/tiebreak/algorithms/{algorithm}/index.html"  # directives stand in docs/*.md
    specification = siblings.Specification(href, siblings.read_decisions(algorithm))
    yield siblings.columns(name, chosen, specification)


def plumbing_of(folder: Path, name: str, *frameworks: str) -> Iterator[str]:
    """Yield one function that the agents of a framework share, side by side."""
    chosen = {key: siblings.plumbing(key) for key in frameworks}
    yield siblings.columns(name, chosen, siblings.Specification("", {}))


def report_of(folder: Path, records: str) -> Iterator[str]:
    """Yield a link to the page of a results folder, which is written beside the document."""
    file = folder / f"report-{records.replace('/', '-')}.html"
    write_report([ROOT / "results" / records], file)
    yield f"**[Open the page of this measurement]({file.name})**: one file that loads nothing."


def _text(value: Any) -> str:
    """Return a setting's value as it is typed after `--set NAME=`."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


KINDS: dict[str, Callable[..., Iterator[str]]] = {
    "settings": settings_tables,
    "functions": functions_of,
    "plumbing": plumbing_of,
    "report": report_of,
}
"""Name of a directive -> function of the page's folder and the directive's words, to lines."""
