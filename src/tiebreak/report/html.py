"""Render results folders as one HTML page that needs no network and runs no other scripts."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiebreak.core.errors import UsageError
from tiebreak.core.files import write_atomic
from tiebreak.core.text import plural
from tiebreak.report import (
    answer,
    charts,
    cross_tables,
    flags,
    formatting,
    memory,
    phrases,
    published,
    selftests,
)
from tiebreak.report.page_data import PageData, read_folders
from tiebreak.stats.summaries import GroupSummary

TEMPLATES = Path(__file__).parent / "templates"

DRAW = """
for (const place of document.querySelectorAll('[data-chart]')) {
  const spec = JSON.parse(document.getElementById(place.dataset.chart).textContent);
  const actions = {export: true, source: false, compiled: false, editor: false};
  vegaEmbed(place, spec, {mode: 'vega-lite', renderer: 'svg', ast: true, actions,
    logLevel: 1})
    .catch((error) => { place.textContent = 'This chart could not be drawn: ' + error.message; });
}
"""
"""The page's own script."""


def write_report(dirs: Sequence[Path], out: Path, reference: str | None = None) -> Path:
    """Write the page for one or several results folders, one after the other and never pooled.

    reference: label or framework of the cell that ratios are relative to; by default torch's.
    Raises UsageError for a folder without results, or if `out` cannot be written.
    """
    if not dirs:
        raise UsageError("a report needs at least one results folder: tiebreak report DIR")
    page = render(read_folders([Path(folder) for folder in dirs], reference))
    out = Path(out)
    try:
        write_atomic(out, page)
    except OSError as error:
        raise UsageError(f"cannot write the report to {str(out)!r}: {error.strerror}") from error
    return out


def render(folders: Sequence[PageData]) -> str:
    """Return the page as text."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = [charts.script(), DRAW]
    return environment.get_template("report.html.j2").render(
        runs=[_run_view(data, number) for number, data in enumerate(folders)],
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        scripts=scripts,
        policy=" ".join(f"'sha256-{_sha256(script)}'" for script in scripts),
        phrases=phrases,
        sentence=answer.sentence,
        formats=formatting,
        memory=memory,
        plural=plural,
        describe_flags=flags.describe_flags,
        all_flags=flags.glossary(flags.FLAGS),
        colors=charts.COLORS,
        phases=charts.PHASE_COLORS,
    )


def _run_view(data: PageData, number: int) -> dict[str, Any]:
    """Return a folder with its charts, whose ids are unique on the page."""
    shown = [group for group in data.groups if not phrases.why_absent(group)] or data.groups
    titles = phrases.titles(shown)
    groups = [
        _group_view(data, group, title, f"run{number}-group{index}")
        for index, (group, title) in enumerate(zip(shown, titles, strict=True))
    ]
    compared = [group for group in data.groups if group.reference]
    frameworks = {cell.cell["framework"] for group in compared for cell in group.cells}
    tables = cross_tables.cross_tables(data.groups)
    tables += published.cross_tables(data.groups, data.suite.get("published", []))
    return {
        "id": f"run{number}",
        "run": data,
        "groups": groups,
        "absent_groups": phrases.absent_groups(data.groups),
        "cross_tables": tables,
        "overview": _embed(charts.overview_chart(compared)) if len(compared) > 1 else "",
        "stopwatch": selftests.badge(data.machine_test),
        "stopwatch_details": selftests.describe(data.machine_test),
        "glossary": flags.glossary(flags.flag_names(data.groups)),
        "legend": [(name, color) for name, color in charts.COLORS.items() if name in frameworks],
    }


def _group_view(data: PageData, group: GroupSummary, title: str, html_id: str) -> dict[str, Any]:
    """Return a group with its charts and its memory."""
    series = []
    for cell in group.cells:
        key = (group.group, group.fingerprint, cell.cell_id)
        if key in data.memory:
            series.append((cell, data.memory[key]))
    all_judged = bool(series) and all(one.judged for _, one in series)
    return {
        "id": html_id,
        "title": title,
        "summary": group,
        "per_thousand": cross_tables.per_thousand(group),
        "ratio": _embed(charts.ratio_chart(group)) if group.reference else "",
        "phases": _embed(charts.phase_chart(group)) if group.reference else "",
        "memory": _embed(charts.memory_chart(series)) if series else "",
        "sources": memory.sources(series),
        "judged": {cell.cell_id for cell, one in series if one.judged},
        "leaks": memory.leaks(group, all_judged),
    }


def _embed(spec: dict[str, Any]) -> str:
    """Return a chart as JSON that cannot close the HTML element it is in."""
    text = json.dumps(spec, allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
