"""Draw learning curves with Vega-Lite, as SVG or PNG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tiebreak.report import palette
from tiebreak.report.learning import AXES, Line, to_rows

WIDTH, HEIGHT = 640, 360
"""Pixels of the plotting area."""

FURTHER = (
    "#2f62c4", "#c2571a", "#1d7f5c", "#8145a8", "#8a6d00", "#c2255c", "#0b8599", "#5b6470",
)  # fmt: skip
"""Colors of lines that do not differ in framework alone; further lines are dashed."""


def to_svg(lines: Sequence[Line], axis: str, title: str) -> str:
    """Return the chart as an SVG file."""
    import vl_convert

    return vl_convert.vegalite_to_svg(specification(lines, axis, title))


def to_png(lines: Sequence[Line], axis: str, title: str) -> bytes:
    """Return the chart as a PNG file."""
    import vl_convert

    return vl_convert.vegalite_to_png(specification(lines, axis, title), scale=2)


def specification(lines: Sequence[Line], axis: str, title: str) -> dict[str, Any]:
    """Return the Vega-Lite specification of a chart: a line and a band for each setting."""
    color = _color(lines)
    dash = {
        "field": "line",
        "scale": {"domain": [line.label for line in lines], "range": _dashes(lines)},
        "legend": None,
    }
    x = {"field": axis, "type": "quantitative", "title": AXES[axis]}
    y = {"type": "quantitative", "title": "greedy return"}
    band = {
        "transform": [{"filter": "datum.low != null"}],
        "mark": {"type": "area", "opacity": 0.2},
        "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": color},
    }
    middle = {
        "mark": {"type": "line", "strokeWidth": 2},
        "encoding": {"x": x, "y": {**y, "field": "iqm"}, "color": color, "strokeDash": dash},
    }
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": {"text": title, "anchor": "start"},
        "background": "white",
        "width": WIDTH,
        "height": HEIGHT,
        "data": {"values": to_rows(lines, axis)},
        "layer": [band, middle],
    }


def _color(lines: Sequence[Line]) -> dict[str, Any]:
    """Return the encoding of colors, with a legend below the chart."""
    return {
        "field": "line",
        "type": "nominal",
        "title": None,
        "scale": {"domain": [line.label for line in lines], "range": _colors(lines)},
        "legend": {
            "orient": "bottom",
            "columns": 2,
            "labelLimit": 400,
            "symbolType": "stroke",
            "symbolStrokeWidth": 3,
            "symbolOpacity": 1,
        },
    }


def _colors(lines: Sequence[Line]) -> list[str]:
    frameworks = [line.framework for line in lines]
    if len(set(frameworks)) == len(frameworks):
        return [palette.SERIES[palette.framework_series(name)].light for name in frameworks]
    return [FURTHER[i % len(FURTHER)] for i in range(len(lines))]


def _dashes(lines: Sequence[Line]) -> list[list[int]]:
    """Return the pattern of each line: solid, and dashed where the colors start again."""
    return [[1, 0] if i < len(FURTHER) else [6, 3] for i in range(len(lines))]
