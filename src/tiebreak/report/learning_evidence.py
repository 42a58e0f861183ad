"""What learning studies show: tables, a figure, and one page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tiebreak
from tiebreak.core.errors import UsageError
from tiebreak.core.files import write_atomic
from tiebreak.core.text import plural
from tiebreak.report import html
from tiebreak.report.formatting import DASH
from tiebreak.report.markdown import escape, table
from tiebreak.stats.equivalence import Equivalence
from tiebreak.studies import seeds, verdicts
from tiebreak.studies.seeds import SeedRecord
from tiebreak.studies.study import MEASURES, Study
from tiebreak.studies.verdicts import Finding, PublishedFinding

COLORS = {"same": "#1d7f5c", "different": "#c2571a"}
OTHER_COLOR = "#5b6470"
"""Color of a comparison that has neither verdict."""


def finding_rows(studies: Sequence[Study], records: Sequence[SeedRecord]) -> list[dict[str, Any]]:
    """Return a row for each comparison, with its verdict and the numbers behind it."""
    return [_row(finding) for study in studies for finding in verdicts.judge(study, records)]


def _row(finding: Finding) -> dict[str, Any]:
    study, comparison, result = finding.study, finding.comparison, finding.result
    values = {"first": finding.first, "second": finding.second}
    programs = {"first": comparison.first, "second": comparison.second}
    middles = {
        f"{side}_iqm": verdicts.of_seeds(program, values[side], study)
        for side, program in programs.items()
    }
    numbers = _finite(result._asdict()) if result else dict.fromkeys(Equivalence._fields)
    return {
        "study": study.name,
        "measure": study.measure,
        "first": comparison.first.label,
        "second": comparison.second.label,
        "control": comparison.control,
        "expected": comparison.expected,
        "seeds": [len(finding.first), len(finding.second)],
        "declared_seeds": [comparison.first.seeds, comparison.second.seeds],
        "margin_sd": study.margin_sd,
        "power": finding.power,
        "verdict": finding.verdict,
        "as_expected": finding.is_as_expected,
        **{name: found._asdict() if found else None for name, found in middles.items()},
        **numbers,
        "second_is_better": finding.better._asdict() if finding.better else None,
        "values": {side: list(of_seeds) for side, of_seeds in values.items()},
    }


def _finite(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """Return numbers for JSON: an effect of values without scatter may be infinite."""
    return {name: value if abs(value) < 1e18 else None for name, value in numbers.items()}


def finding_lines(studies: Sequence[Study], records: Sequence[SeedRecord]) -> Iterator[str]:
    """Yield a line for each comparison that has begun, then for each published return."""
    for study in studies:
        for finding in verdicts.judge(study, records):
            if finding.first or finding.second:
                yield _finding_line(finding)
        for found in verdicts.judge_published(study, records):
            if found.mean is not None:
                yield _published_line(found)


def _finding_line(finding: Finding) -> str:
    comparison = finding.comparison
    names = f"{comparison.first.label} and {comparison.second.label}"
    expected = f" (a control: {comparison.expected} is expected)" if comparison.control else ""
    count = f"{len(finding.first)} and {len(finding.second)} seeds"
    text = f"{finding.study.name}: {names}: {finding.verdict}{expected}, {count}"
    return f"{text}, difference {_effect(finding)} SD" if finding.result else text


def _published_line(found: PublishedFinding) -> str:
    published = found.study.published
    assert published is not None
    theirs = f"{published.mean:.0f} ± {published.sd:.0f}"
    own = f"{found.mean:.0f} over {plural(len(found.values), 'seed')}"
    return f"{found.study.name}: {own}, published {theirs}: {found.verdict}"


def _effect(finding: Finding) -> str:
    """Return an effect with its interval, in standard deviations: `+0.12 [−0.37, +0.61]`."""
    result = finding.result
    if result is None:
        return DASH
    effect, low, high = (_signed(v) for v in (result.effect, result.low, result.high))
    return f"{effect} [{low}, {high}]"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def frameworks_table(studies: Sequence[Study], records: Sequence[SeedRecord]) -> Iterator[str]:
    """Yield the comparisons of frameworks, a row each."""
    yield from _comparison_table(studies, records, controls=False)


def controls_table(studies: Sequence[Study], records: Sequence[SeedRecord]) -> Iterator[str]:
    """Yield the controls, a row each."""
    yield from _comparison_table(studies, records, controls=True)


def _comparison_table(
    studies: Sequence[Study], records: Sequence[SeedRecord], controls: bool
) -> Iterator[str]:
    rows = []
    for study in studies:
        for finding in verdicts.judge(study, records):
            if bool(finding.comparison.control) == controls:
                rows.append(_cells(finding))
    heads = ["study", "programs", "seeds", "IQM", "difference in SD [90 %]", "second is better"]
    heads += ["margin", "expected", "verdict"] if controls else ["margin", "verdict"]
    yield from table(heads, rows)


def _cells(finding: Finding) -> list[str]:
    comparison, study = finding.comparison, finding.study
    first, second = comparison.first, comparison.second
    better = finding.better
    middles = [
        f"{found.value:.4g}" if (found := verdicts.of_seeds(program, values, study)) else DASH
        for program, values in ((first, finding.first), (second, finding.second))
    ]
    names = f"{first.label}, {second.label}"
    cells = [
        escape(f"{study.name}: {comparison.control}" if comparison.control else study.name),
        escape(names),
        f"{len(finding.first)}, {len(finding.second)}",
        ", ".join(middles).replace("-", "−"),
        escape(_effect(finding)),
        escape(f"{better.value:.2f} [{better.low:.2f}, {better.high:.2f}]") if better else DASH,
        f"{study.margin_sd:g} SD",
    ]
    if comparison.control:
        cells.append(str(comparison.expected))
    return [*cells, f"**{finding.verdict}**"]


def published_table(studies: Sequence[Study], records: Sequence[SeedRecord]) -> Iterator[str]:
    """Yield our returns beside published ones, a row each."""
    rows = []
    for study in studies:
        for found in verdicts.judge_published(study, records):
            published = study.published
            assert published is not None
            values = ", ".join(f"{value:.0f}" for value in found.values)
            own = f"{found.mean:.0f} ({values})" if found.mean is not None else DASH
            theirs = f"{published.mean:.0f} ± {published.sd:.0f}"
            texts = [own.replace("-", "−"), theirs.replace("-", "−"), escape(published.source)]
            rows.append([escape(study.name), escape(found.program.label), *texts, found.verdict])
    heads = ["study", "program", "ours: mean (seeds)", "published", "source", "within 2 SD"]
    yield from table(heads, rows)


def overall_table(studies: Sequence[Study], records: Sequence[SeedRecord]) -> Iterator[str]:
    """Yield each framework over all complete studies, with a stratified bootstrap interval."""
    rows = [
        [
            escape(one.framework),
            str(one.studies),
            str(one.estimate.seeds),
            escape(
                f"{_signed(one.estimate.value)} "
                f"[{_signed(one.estimate.low)}, {_signed(one.estimate.high)}]"
            ),
        ]
        for one in verdicts.overall(studies, records)
    ]
    yield from table(["framework", "studies", "trainings", "IQM in SD [95 %]"], rows, "lrrr")


PARTS = {
    "frameworks": frameworks_table,
    "controls": controls_table,
    "published": published_table,
    "overall": overall_table,
}
"""Parts of the table `learning` of documents."""


def learning(results: Path, paths: Sequence[str], options: Mapping[str, str]) -> Iterator[str]:
    """Yield a part of what a folder of studies shows: `part=frameworks`, `controls`, …

    A part without a row is a line that says so.
    """
    part = options.get("part", "frameworks")
    if len(paths) != 1 or part not in PARTS:
        raise UsageError(f"the table learning takes one folder and part={'|'.join(PARTS)}")
    heads, rule, *rows = PARTS[part](*seeds.read(results / paths[0]))
    if rows:
        yield from (heads, rule, *rows)
    else:
        yield "No such study is complete yet: `tiebreak study --plan` says what is left."


KINDS = {"learning": learning}


def figure(studies: Sequence[Study], records: Sequence[SeedRecord]) -> dict[str, Any]:
    """Return the Vega-Lite specification of all effects with their intervals and margins."""
    shown = [row for row in finding_rows(studies, records) if row["effect"] is not None]
    rows = [
        {
            "name": f"{row['study']}: {row['first']} – {row['second']}",
            **{name: row[name] for name in ("effect", "low", "high", "verdict")},
            "margin": row["margin_sd"],
            "minus": -row["margin_sd"],
        }
        for row in shown
    ]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "background": "white",
        "width": 420,
        "height": {"step": 24},
        "data": {"values": rows},
        "layer": _layers(),
    }


def _layers() -> list[dict[str, Any]]:
    """Return the margin as a band, the interval as a line, and the effect as a point."""
    y = {
        "field": "name", "type": "nominal", "sort": None, "title": None,
        "axis": {"labelLimit": 420},
    }  # fmt: skip
    domain, colors = [*COLORS, "not shown"], [*COLORS.values(), OTHER_COLOR]
    color = {
        "field": "verdict",
        "type": "nominal",
        "scale": {"domain": domain, "range": colors},
        "legend": {"orient": "bottom", "title": None},
    }
    title = "difference of the means, in standard deviations between seeds"
    x = {"type": "quantitative", "title": title}
    band = {"x": {**x, "field": "minus"}, "x2": {"field": "margin"}, "y": y}
    interval = {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": y, "color": color}
    point = {"x": {**x, "field": "effect"}, "y": y, "color": color}
    return [
        {"mark": {"type": "bar", "color": "#dfe3e8", "height": {"band": 1.0}}, "encoding": band},
        {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": interval},
        {"mark": {"type": "point", "filled": True, "size": 70, "opacity": 1}, "encoding": point},
    ]


def write_evidence_page(folder: Path, out: Path) -> Path:
    """Write the page about a folder of studies; return its path.

    Raises UsageError for records that cannot be read, and if `out` cannot be written.
    """
    import vl_convert

    studies, records = seeds.read(folder)
    rows = finding_rows(studies, records)
    page = html.environment().get_template("evidence.html.j2")
    text = page.render(
        title=_sentence(rows),
        rows=rows,
        published=[f for study in studies for f in verdicts.judge_published(study, records)],
        overall=verdicts.overall(studies, records),
        seeds=records,
        measures=MEASURES,
        studies=studies,
        figure=vl_convert.vegalite_to_svg(figure(studies, records)) if records else "",
        version=tiebreak.__version__,
        style=html.style(),
    )
    try:
        write_atomic(out, text)
    except OSError as error:
        raise UsageError(f"cannot write the report to {str(out)!r}: {error.strerror}") from error
    return out


def _sentence(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what the studies show, in one sentence; "same" only where it is shown."""
    judged = [row for row in rows if row["verdict"] in ("same", "different", "not shown")]
    pairs = [row["verdict"] for row in judged if not row["control"]]
    controls = [row["as_expected"] for row in judged if row["control"]]
    if not pairs and not controls:
        return "Nothing is shown yet: no study is complete."
    parts = [
        f"{pairs.count(verdict)} of {plural(len(pairs), 'comparison')} of frameworks: {text}"
        for verdict, text in (
            ("same", "shown to be the same"),
            ("different", "different"),
            ("not shown", "not shown"),
        )
        if pairs.count(verdict)
    ]
    if controls:
        parts.append(f"{sum(controls)} of {plural(len(controls), 'control')} came out")
    return "; ".join(parts) + "."
