"""Vega-Lite charts as plain specifications, and the script that draws them without a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

from tiebreak.registry import FRAMEWORKS
from tiebreak.report import phrases
from tiebreak.stats.summaries import CellSummary, GroupSummary
from tiebreak.stats.visits import PHASES

COLORS = {name: row.color for name, row in FRAMEWORKS.items()}
"""One color per framework everywhere."""
OTHER = "#6b7280"
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
LINES = "split(datum.label, ' · ')"
"""Long names break into lines, so that they fit on a narrow screen."""

LINE_PX = 13

Spec = dict[str, Any]


def ratio_chart(group: GroupSummary) -> Spec:
    """Dot and 95 % interval of every cell of a group; a line at 1, logarithmic, right is faster."""
    rows = _ratio_rows(group)
    reference = group.find(group.reference)
    title = f"speed relative to {phrases.name(reference)}" if reference else "relative speed"
    order = [row["name"] for row in rows]
    return _ratio_layers(rows, "name", order, title, step=36)


def overview_chart(groups: Sequence[GroupSummary]) -> Spec:
    """Every group of a run in one picture: a row per group, a dot per cell."""
    titles = phrases.titles(groups)
    rows = []
    for group, title in zip(groups, titles, strict=True):
        found = _ratio_rows(group)
        rows += [{**row, "group": title, "rank": rank} for rank, row in enumerate(found)]
    most = max((row["rank"] for row in rows), default=0) + 1
    lines = max((title.count(" · ") for title in titles), default=0) + 1
    step = max(LINE_PX, (LINE_PX * lines + 8) // most)  # a row holds all lines of its name
    return _ratio_layers(rows, "group", titles, "relative to the reference", step)


def phase_chart(group: GroupSummary) -> Spec:
    """Where a visit's wall time goes: import, build, first call, warm-up, steady samples."""
    import altair as alt

    rows = [
        {"name": phrases.name(cell), "phase": phase.replace("_", " "), "seconds": seconds,
         "order": order, "time": phrases.duration(seconds)}
        for cell in group.cells for order, phase in enumerate(PHASES)
        if (seconds := cell.phases_s.get(phase)) is not None
    ]  # fmt: skip
    chart = alt.Chart(alt.Data(values=rows), height=alt.Step(36)).mark_bar(height=18)
    return finish(
        chart.encode(
            y=_names("name", [phrases.name(c) for c in group.cells if c.phases_s]),
            x=alt.X("seconds:Q", title=["seconds per visit", "(median of the visits)"]),
            color=alt.Color(
                "phase:N",
                scale=alt.Scale(domain=list(PHASE_COLORS), range=list(PHASE_COLORS.values())),
                legend=None,
            ),
            order="order:O",
            tooltip=["name:N", "phase:N", "time:N"],
        )
    )


@cache
def script() -> str:
    """Vega, Vega-Lite and vega-embed as one JavaScript text that needs nothing else."""
    import altair as alt
    import vl_convert

    version = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version)


def _ratio_rows(group: GroupSummary) -> list[Spec]:
    return [row for cell in group.cells if (row := _ratio_row(cell, group))]


def _ratio_row(cell: CellSummary, group: GroupSummary) -> Spec | None:
    """What a dot shows; None for a cell without a ratio."""
    is_reference = cell.cell_id == group.reference
    found = cell.comparison
    if not is_reference and not found:
        return None
    low, high = (found.low, found.high) if found else (None, None)
    return {
        "name": phrases.name(cell),
        "color": COLORS.get(cell.cell["framework"], OTHER),
        "ratio": found.ratio if found else 1.0,
        "low": low,
        "high": high,
        "text": phrases.times(found.ratio) if found else "reference",
        "interval": phrases.ratio(found) if found else "1 (reference)",
        "verdict": phrases.verdict(cell, group),
        "speed": phrases.rate(cell.units_per_s, group.unit),
        "flags": phrases.flags(cell) or "none",
        "kind": "flagged" if cell.flags else "clean",
    }


def _ratio_layers(
    rows: Sequence[Spec], by: str, order: Sequence[str], title: str, step: int
) -> Spec:
    import altair as alt

    domain = _domain(rows)
    rows = [_clipped(row, domain) for row in rows]
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
    base = alt.Chart(alt.Data(values=list(rows)), height=alt.Step(step))
    one = alt.Chart(alt.Data(values=[{"at": 1}])).mark_rule(strokeDash=[4, 3], color=OTHER)
    interval = base.mark_rule(strokeWidth=3, opacity=0.55)
    layers = [
        one.encode(x=alt.X("at:Q", scale=scale)),
        interval.encode(x=alt.X("low:Q", scale=scale), x2="high:Q", color=color, **y),
        *(dots.encode(x=x, color=color, tooltip=tooltip, **y) for dots in _dots(base)),
    ]
    if by == "name":
        values = base.mark_text(dy=-LINE_PX, fontSize=11, color="#1f2937")
        layers.append(values.encode(x=x, text="text:N", **y))
    return finish(alt.layer(*layers))


def _dots(base: Any) -> tuple[Any, Any]:
    """Filled dots, and hollow ones for flagged cells."""
    clean = base.transform_filter("datum.kind == 'clean'")
    flagged = base.transform_filter("datum.kind == 'flagged'")
    return (
        clean.mark_point(size=85, filled=True, opacity=1),
        flagged.mark_point(size=75, filled=False, fill="white", strokeWidth=2, opacity=1),
    )


def _names(field: str, order: Sequence[str]) -> Any:
    import altair as alt

    lines = max((name.count(" · ") for name in order), default=0)
    axis = alt.Axis(
        labelExpr=LINES, labelOffset=-7 * lines, labelLimit=190, labelPadding=8,
        ticks=False, domain=False,
    )  # fmt: skip
    return alt.Y(f"{field}:N", sort=list(order), title=None, axis=axis)


def _domain(rows: Sequence[Spec]) -> list[float]:
    """Where the ratios are, with intervals up to three times further out (the rest is clipped)."""
    ratios = [1.0, *(r["ratio"] for r in rows)]
    low, high = min(ratios), max(ratios)
    lows = [max(r["low"], low / 3) for r in rows if r["low"] is not None]
    highs = [min(r["high"], high * 3) for r in rows if r["low"] is not None]
    low, high = min([low, *lows]), max([high, *highs])
    pad = max((high / low) ** 0.08, 1.03)
    return [low / pad, high * pad]


def _clipped(row: Spec, domain: Sequence[float]) -> Spec:
    """A row whose interval ends inside the chart; the text keeps the true ends."""
    if row["low"] is None:
        return row
    return {
        **row,
        "low": max(row["low"], domain[0]),
        "high": min(row["high"], domain[1]),
    }


def _ticks(domain: Sequence[float], most: int = 8) -> list[float]:
    """1 and, outwards from it, those TICKS that leave each other room."""
    room = math.log(domain[1] / domain[0]) / most
    kept = [1.0]
    for side in (TICKS[::-1], TICKS):
        last = 1.0
        for tick in side:
            outward = tick < last if side is not TICKS else tick > last
            if outward and domain[0] <= tick <= domain[1] and abs(math.log(tick / last)) >= room:
                kept.append(tick)
                last = tick
    return sorted(kept)


def finish(chart: Any) -> Spec:
    """The specification of a chart in the page's style, as wide as the page gives it."""
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
    del spec["$schema"]  # the page names no address, not even one that is never loaded
    return spec
