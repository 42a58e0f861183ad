"""Results folders -> one HTML page that needs no network and can run no script but its own."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiebreak.core.errors import UsageError
from tiebreak.core.files import write_atomic
from tiebreak.report import charts, cross_tables, flags, memory, phrases, published, selftests
from tiebreak.report.memory_chart import memory_chart
from tiebreak.report.page_data import Run, read_runs
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


def write_report(dirs: Sequence[Path], out: Path, reference: str | None = None) -> Path:
    """Write the page for one or several results folders, side by side and never pooled.

    reference: label or framework of the cell that ratios are given against, else torch's.
    Raises UsageError for a folder without results, or an `out` that cannot be written.
    """
    if not dirs:
        raise UsageError("a report needs at least one results folder: tiebreak report DIR")
    text = render(read_runs([Path(folder) for folder in dirs], reference))
    out = Path(out)
    try:
        write_atomic(out, text)
    except OSError as error:
        raise UsageError(f"cannot write the report to {str(out)!r}: {error.strerror}") from error
    return out


def render(runs: Sequence[Run]) -> str:
    """The page as text."""
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
        runs=[_view(run, number) for number, run in enumerate(runs)],
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        scripts=scripts,
        policy=" ".join(f"'sha256-{_hash(script)}'" for script in scripts),
        words=phrases,
        memory=memory,
        all_flags=phrases.glossary(flags.FLAGS),
        colors=charts.COLORS,
        phases=charts.PHASE_COLORS,
    )


def _view(run: Run, number: int) -> dict[str, Any]:
    """A run with its charts, whose ids are unique on the page."""
    shown = [group for group in run.groups if not phrases.absent(group)] or run.groups
    titles = zip(shown, phrases.titles(shown), strict=True)
    groups = [
        _group(run, group, title, f"run{number}-group{index}")
        for index, (group, title) in enumerate(titles)
    ]
    compared = [g for g in run.groups if g.reference]
    overview = _embedded(charts.overview_chart(compared)) if len(compared) > 1 else ""
    frameworks = {c.cell["framework"] for g in compared for c in g.cells}
    return {
        "id": f"run{number}",
        "run": run,
        "groups": groups,
        "not_here": phrases.not_here(run.groups),
        "sheets": [
            *cross_tables.side_by_side(run.groups),
            *published.sheets(run.groups, run.suite.get("published", [])),
        ],
        "overview": overview,
        "stopwatch": selftests.badge(run.tested),
        "account": selftests.account(run.tested),
        "glossary": phrases.glossary(flags.names(run.groups)),
        "legend": [(f, color) for f, color in charts.COLORS.items() if f in frameworks],
    }


def _group(run: Run, group: GroupSummary, title: str, where: str) -> dict[str, Any]:
    """A group with its charts and what its cells do with memory."""
    keys = [(cell, (group.group, group.fingerprint, cell.cell_id)) for cell in group.cells]
    lines = [(cell, run.memory[key]) for cell, key in keys if key in run.memory]
    return {
        "id": where,
        "title": title,
        "summary": group,
        "per_thousand": cross_tables.per_thousand(group),
        "ratio": _embedded(charts.ratio_chart(group)) if group.reference else "",
        "phases": _embedded(charts.phase_chart(group)) if group.reference else "",
        "memory": _embedded(memory_chart(lines)) if lines else "",
        "sources": memory.sources(lines),
        "judged": {cell.cell_id for cell, series in lines if series.judged},
        "leaks": memory.leaks(group, bool(lines) and all(series.judged for _, series in lines)),
    }


def _embedded(spec: dict[str, Any]) -> str:
    """A chart as JSON that cannot end the element it stands in."""
    text = json.dumps(spec, allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
