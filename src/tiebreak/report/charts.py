"""Vega-Lite charts as plain specifications, and the script that draws them without a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

from tiebreak.registry import FRAMEWORKS
from tiebreak.report import phrases
from tiebreak.report.flags import describe_flags
from tiebreak.report.formatting import measured_time, rate, ratio, size, times
from tiebreak.report.memory import Series
from tiebreak.stats.summaries import CellSummary, GroupSummary
from tiebreak.stats.visits import PHASES

COLORS = {name: row.color for name, row in FRAMEWORKS.items()}
"""Color of each framework in all charts."""
OTHER = "#6b7280"
"""Color of cells without a framework."""
PHASE_COLORS = {
    "import": "#cbd2db",
    "build": "#94a3b8",
    "first call": "#d9662c",
    "warmup": "#f0b768",
    "steady": "#2f6f9f",
}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
TICKS = (
    0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.2, 1.5, 2, 3, 5, 7,
    10, 15, 20, 30, 50, 70, 100, 200, 500, 1000,
)  # fmt: skip
"""Candidates for ticks of a ratio axis."""
SPLIT_LABEL = "split(datum.label, ' · ')"
"""Breaks long names into lines, so that they fit on a narrow screen."""
LINE_PX = 13
"""Height of a line of text."""

MEMORY_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
MIN_MEMORY_SPAN = 1e4
"""Bytes that a memory axis spans at least, up and down: noise must not fill it."""

Spec = dict[str, Any]
"""A Vega-Lite specification, or a row of its data."""


def ratio_chart(group: GroupSummary) -> Spec:
    """Draw the ratio of every cell of a group as a dot with its 95 % interval.

    The axis is logarithmic, with a line at 1; right is faster.
    """
    rows = _ratio_rows(group)
    reference = group.find(group.reference)
    title = f"speed relative to {phrases.name(reference)}" if reference else "relative speed"
    names = [row["name"] for row in rows]
    return _ratio_layers(rows, by="name", order=names, title=title, step_px=36)


def overview_chart(groups: Sequence[GroupSummary]) -> Spec:
    """Draw all groups of a run in one chart: one row per group, one dot per cell."""
    titles = phrases.titles(groups)
    rows = []
    for group, title in zip(groups, titles, strict=True):
        for rank, row in enumerate(_ratio_rows(group)):
            rows.append({**row, "group": title, "rank": rank})
    most_cells = max((row["rank"] for row in rows), default=0) + 1
    lines = max((title.count(" · ") for title in titles), default=0) + 1
    step_px = max(LINE_PX, (LINE_PX * lines + 8) // most_cells)  # a row holds its whole name
    return _ratio_layers(
        rows, by="group", order=titles, title="relative to the reference", step_px=step_px
    )


def phase_chart(group: GroupSummary) -> Spec:
    """Draw the wall time of a visit as stacked bars: import, build, first call, warm-up, steady."""
    import altair as alt

    rows = []
    for cell in group.cells:
        for order, phase in enumerate(PHASES):
            seconds = cell.phases_s.get(phase)
            if seconds is not None:
                rows.append(
                    {
                        "name": phrases.name(cell),
                        "phase": phase.replace("_", " "),
                        "seconds": seconds,
                        "order": order,
                        "time": measured_time(seconds),
                    }
                )
    colors = alt.Scale(domain=list(PHASE_COLORS), range=list(PHASE_COLORS.values()))
    chart = alt.Chart(alt.Data(values=rows), height=alt.Step(36)).mark_bar(height=18)
    return finish(
        chart.encode(
            y=_names("name", [phrases.name(c) for c in group.cells if c.phases_s]),
            x=alt.X("seconds:Q", title=["seconds per visit", "(median of the visits)"]),
            color=alt.Color("phase:N", scale=colors, legend=None),
            order="order:O",
            tooltip=["name:N", "phase:N", "time:N"],
        )
    )


def memory_chart(series: Sequence[tuple[CellSummary, Series]]) -> Spec:
    """Draw memory above its first reading against calls, one line per cell.

    The second and later cells of a framework are dashed.
    """
    import altair as alt

    peak = max((abs(y) for _, one in series for y in one.rise_bytes), default=0.0)
    factor, unit = next((u for u in MEMORY_UNITS if peak >= u[0]), MEMORY_UNITS[-1])
    rows = _memory_rows(series, factor)
    rises = [row["rise"] for row in rows]
    span = MIN_MEMORY_SPAN / factor
    scale = alt.Scale(domain=[min([-span, *rises]), max([span, *rises])], nice=True)
    dashes = alt.Scale(domain=["0", "1", "2"], range=[[1, 0], [6, 4], [2, 3]])
    chart = alt.Chart(alt.Data(values=rows), height=190).mark_line(strokeWidth=2)
    return finish(
        chart.encode(
            x=alt.X("call:Q", title="calls", axis=alt.Axis(tickMinStep=1, format="d")),
            y=alt.Y("rise:Q", title=f"{unit} above the first reading", scale=scale),
            color=alt.Color("color:N", scale=None, legend=None),
            strokeDash=alt.StrokeDash("dash:N", scale=dashes, legend=None),
            detail="name:N",
            tooltip=["name:N", "call:Q", "kept:N"],
        )
    )


def _memory_rows(series: Sequence[tuple[CellSummary, Series]], factor: float) -> list[Spec]:
    """Return a row for each cell and call, in bytes / factor."""
    rows = []
    cells_of_color: dict[str, int] = {}
    for cell, one in series:
        color = COLORS.get(cell.cell["framework"], OTHER)
        dash = cells_of_color.get(color, 0)
        cells_of_color[color] = dash + 1
        for call, rise in enumerate(one.rise_bytes):
            rows.append(
                {
                    "call": call,
                    "rise": rise / factor,
                    "name": phrases.name(cell),
                    "color": color,
                    "kept": size(rise),
                    "dash": str(min(dash, 2)),
                }
            )
    return rows


@cache
def script() -> str:
    """Return Vega, Vega-Lite and vega-embed as one self-contained JavaScript text."""
    import altair as alt
    import vl_convert

    version = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version)


def _ratio_rows(group: GroupSummary) -> list[Spec]:
    """Return a row for the reference and for every cell that has a ratio."""
    return [
        _ratio_row(cell, group)
        for cell in group.cells
        if cell.cell_id == group.reference or cell.comparison
    ]


def _ratio_row(cell: CellSummary, group: GroupSummary) -> Spec:
    comparison = cell.comparison
    return {
        "name": phrases.name(cell),
        "color": COLORS.get(cell.cell["framework"], OTHER),
        "ratio": comparison.ratio if comparison else 1.0,
        "low": comparison.low if comparison else None,
        "high": comparison.high if comparison else None,
        "text": times(comparison.ratio) if comparison else "reference",
        "interval": ratio(comparison) if comparison else "1 (reference)",
        "verdict": phrases.verdict(cell, group),
        "speed": rate(cell.units_per_s, group.unit),
        "flags": describe_flags(cell) or "none",
        "kind": "flagged" if cell.flags else "clean",
    }


def _ratio_layers(
    rows: Sequence[Spec], by: str, order: Sequence[str], title: str, step_px: int
) -> Spec:
    """Build a chart of ratios: a line at 1, intervals, dots, and values if rows are cells."""
    import altair as alt

    domain = _domain(rows)
    data = alt.Data(values=[_clipped(row, domain) for row in rows])
    scale = alt.Scale(type="log", domain=domain, nice=False)
    axis = alt.Axis(
        values=_ticks(domain), format="~g", labelExpr="datum.label + '×'", labelOverlap="greedy"
    )
    x = alt.X("ratio:Q", scale=scale, axis=axis, title=[title, "(logarithmic; right is faster)"])
    y = {"y": _names(by, order)}
    if by == "group":
        y["yOffset"] = alt.YOffset("rank:O")
    color = alt.Color("color:N", scale=None, legend=None)
    tooltip = ["name:N", "interval:N", "verdict:N", "speed:N", "flags:N"]

    base = alt.Chart(data, height=alt.Step(step_px))
    one = alt.Chart(alt.Data(values=[{"at": 1}])).mark_rule(strokeDash=[4, 3], color=OTHER)
    interval = base.mark_rule(strokeWidth=3, opacity=0.55)
    clean, flagged = _dots(base)
    layers = [
        one.encode(x=alt.X("at:Q", scale=scale)),
        interval.encode(x=alt.X("low:Q", scale=scale), x2="high:Q", color=color, **y),
        clean.encode(x=x, color=color, tooltip=tooltip, **y),
        flagged.encode(x=x, color=color, tooltip=tooltip, **y),
    ]
    if by == "name":
        values = base.mark_text(dy=-LINE_PX, fontSize=11, color="#1f2937")
        layers.append(values.encode(x=x, text="text:N", **y))
    return finish(alt.layer(*layers))


def _dots(base: Any) -> tuple[Any, Any]:
    """Return filled dots, and hollow ones for flagged cells."""
    clean = base.transform_filter("datum.kind == 'clean'")
    flagged = base.transform_filter("datum.kind == 'flagged'")
    return (
        clean.mark_point(size=85, filled=True, opacity=1),
        flagged.mark_point(size=75, filled=False, fill="white", strokeWidth=2, opacity=1),
    )


def _names(field: str, order: Sequence[str]) -> Any:
    """Return a vertical axis of names in this order."""
    import altair as alt

    lines = max((name.count(" · ") for name in order), default=0)
    axis = alt.Axis(
        labelExpr=SPLIT_LABEL,
        labelOffset=-7 * lines,
        labelLimit=190,
        labelPadding=8,
        ticks=False,
        domain=False,
    )
    return alt.Y(f"{field}:N", sort=list(order), title=None, axis=axis)


def _domain(rows: Sequence[Spec]) -> list[float]:
    """Return the range of the ratios and of their intervals, these up to three times further."""
    ratios = [1.0, *(r["ratio"] for r in rows)]
    low, high = min(ratios), max(ratios)
    lows = [max(r["low"], low / 3) for r in rows if r["low"] is not None]
    highs = [min(r["high"], high * 3) for r in rows if r["low"] is not None]
    low, high = min([low, *lows]), max([high, *highs])
    pad = max((high / low) ** 0.08, 1.03)
    return [low / pad, high * pad]


def _clipped(row: Spec, domain: Sequence[float]) -> Spec:
    """Return a row whose interval ends inside the chart; its text keeps the true ends."""
    if row["low"] is None:
        return row
    return {
        **row,
        "low": max(row["low"], domain[0]),
        "high": min(row["high"], domain[1]),
    }


def _ticks(domain: Sequence[float], most: int = 8) -> list[float]:
    """Return 1 and, outwards from it, those TICKS that are far enough from each other."""
    min_distance = math.log(domain[1] / domain[0]) / most
    kept = [1.0]
    for candidates in (
        [tick for tick in reversed(TICKS) if tick < 1],
        [tick for tick in TICKS if tick > 1],
    ):
        last = 1.0
        for tick in candidates:
            inside = domain[0] <= tick <= domain[1]
            if inside and abs(math.log(tick / last)) >= min_distance:
                kept.append(tick)
                last = tick
    return sorted(kept)


def finish(chart: Any) -> Spec:
    """Return the specification of a chart in the page's style, as wide as its container."""
    label = {"labelFont": FONT, "titleFont": FONT, "labelColor": "#1f2937", "labelFontSize": 12}
    chart = (
        chart.properties(width="container")
        .configure(background="transparent")
        .configure_view(stroke=None)
        .configure_axis(
            **label, titleColor="#4b5563", titleFontWeight="normal", gridColor="#e5e7eb"
        )
        .configure_axisY(grid=False)
        .configure_text(font=FONT)
    )
    spec = chart.to_dict()
    del spec["$schema"]  # the page contains no address, not even one that is never loaded
    return spec
