"""Draw learning curves, final returns and performance profiles with Vega-Lite, as SVG or PNG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tiebreak.report import learning, learning_results, palette
from tiebreak.report.learning import AXES, Line

WIDTH, HEIGHT = 640, 360
"""Pixels of the plotting area."""

FURTHER = (
    "#2f62c4", "#c2571a", "#1d7f5c", "#8145a8", "#8a6d00", "#c2255c", "#0b8599", "#5b6470",
)  # fmt: skip
"""Colors of lines that do not differ in framework alone; further lines are dashed."""


KINDS = ("curves", "profiles", "seeds")
"""What can be drawn."""


def to_svg(lines: Sequence[Line], kind: str, axis: str, title: str) -> str:
    """Return the chart as an SVG file."""
    import vl_convert

    return vl_convert.vegalite_to_svg(specification(lines, kind, axis, title))


def to_png(lines: Sequence[Line], kind: str, axis: str, title: str) -> bytes:
    """Return the chart as a PNG file."""
    import vl_convert

    return vl_convert.vegalite_to_png(specification(lines, kind, axis, title), scale=2)


def rows(lines: Sequence[Line], kind: str, axis: str) -> list[dict[str, Any]]:
    """Return the points of a chart as rows of a table."""
    if kind == "profiles":
        return learning_results.profile_rows(lines)
    if kind == "seeds":
        return learning_results.seed_rows(lines)
    return learning.to_rows(lines, axis)


def specification(lines: Sequence[Line], kind: str, axis: str, title: str) -> dict[str, Any]:
    """Return the Vega-Lite specification of a chart; `axis` is that of curves."""
    layers = {
        "curves": lambda: _banded(lines, (axis, AXES[axis]), ("iqm", "greedy return")),
        "profiles": lambda: _banded(
            lines, ("return", "final return"), ("share", "share of seeds above it")
        ),
        "seeds": lambda: _dots(lines),
    }
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": {"text": title, "anchor": "start"},
        "background": "white",
        "width": WIDTH,
        "height": HEIGHT if kind != "seeds" else {"step": 36},
        "data": {"values": rows(lines, kind, axis)},
        "layer": layers[kind](),
    }


def _banded(
    lines: Sequence[Line], horizontal: tuple[str, str], vertical: tuple[str, str]
) -> list[dict[str, Any]]:
    """Return a band and a line for each setting; axes are pairs of field and title."""
    color = _color(lines)
    dash = {
        "field": "line",
        "scale": {"domain": [line.label for line in lines], "range": _dashes(lines)},
        "legend": None,
    }
    x = {"field": horizontal[0], "type": "quantitative", "title": horizontal[1]}
    y = {"type": "quantitative", "title": vertical[1]}
    band = {
        "transform": [{"filter": "datum.low != null"}],
        "mark": {"type": "area", "opacity": 0.2},
        "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": color},
    }
    middle = {
        "mark": {"type": "line", "strokeWidth": 2},
        "encoding": {"x": x, "y": {**y, "field": vertical[0]}, "color": color, "strokeDash": dash},
    }
    return [band, middle]


def _dots(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Return a dot for each seed, in a row for each setting."""
    color = {**_color(lines), "legend": None}
    order = [line.label for line in learning_results.ranked(lines)]
    y = {
        "field": "line", "type": "nominal", "sort": order, "title": None,
        "axis": {"labelLimit": 240},
    }  # fmt: skip
    x = {
        "field": "final", "type": "quantitative", "title": "final return of each seed",
        "scale": {"zero": False},
    }  # fmt: skip
    return [
        {
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 0.75},
            "encoding": {"x": x, "y": y, "color": color},
        }
    ]


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
