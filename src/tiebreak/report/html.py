"""Write results folders as one HTML page that loads nothing and runs nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiebreak.core.errors import UsageError
from tiebreak.core.files import write_atomic
from tiebreak.core.text import plural
from tiebreak.report import formatting, memory, palette, phrases
from tiebreak.report.page import Page, arrange
from tiebreak.report.page_data import read_folders

TEMPLATES = Path(__file__).parent / "templates"


def write_report(dirs: Sequence[Path], out: Path, reference: str | None = None) -> Path:
    """Write the page for one or several results folders, never pooled.

    reference: label or framework of the cell that ratios are relative to; by default torch's.
    Raises UsageError for a folder without results, or if `out` cannot be written.
    """
    return write_page(read_page(dirs, reference), out)


def read_page(dirs: Sequence[Path], reference: str | None = None) -> Page:
    """Read results folders and arrange what the page shows of them."""
    if not dirs:
        raise UsageError("a report needs at least one results folder: tiebreak report DIR")
    return arrange(read_folders([Path(folder) for folder in dirs], reference))


def write_page(page: Page, out: Path) -> Path:
    """Write a page, and return its path. Raises UsageError if `out` cannot be written."""
    out = Path(out)
    try:
        write_atomic(out, render(page))
    except OSError as error:
        raise UsageError(f"cannot write the report to {str(out)!r}: {error.strerror}") from error
    return out


def render(page: Page) -> str:
    """Return the page as text."""
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            page=page,
            style=style(),
            series=palette.framework_series,
            phrases=phrases,
            formats=formatting,
            memory=memory,
            plural=plural,
        )
    )


def style(*more: str) -> str:
    """Return the style sheet with the colors of bars, without what browsers do not need.

    more: names of style sheets of one kind of page, which are added.
    """
    light = "".join(f".s-{n}{{background:{c.light}}}" for n, c in palette.SERIES.items())
    dark = "".join(f".s-{n}{{background:{c.dark}}}" for n, c in palette.SERIES.items())
    sheets = [TEMPLATES / name for name in ("report.css", *more)]
    written = "".join(sheet.read_text(encoding="utf-8") for sheet in sheets)
    written += f"{light}@media (prefers-color-scheme: dark) {{{dark}}}"
    return re.sub(r"\s*([{};])\s*|(?<=[a-z]:)\s+", lambda match: match[1] or "", written)


def environment() -> Any:
    """Return the templates, which escape everything that they are given."""
    import jinja2

    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["unbroken"] = _unbroken
    return found


def _unbroken(text: str) -> Any:
    """Return HTML in which no line ends at a hyphen, as browsers like to in `CartPole-v1`."""
    import markupsafe

    words = (
        markupsafe.Markup('<span class="nb">{}</span>').format(word)
        if "-" in word
        else markupsafe.escape(word)
        for word in text.split()
    )
    return markupsafe.Markup(" ").join(words)
