"""Draw the history of ratios with Vega-Lite, as SVG or PNG: a panel for each group."""

from __future__ import annotations

from typing import Any

from tiebreak.report.history import History
from tiebreak.report.history_tables import by_group
from tiebreak.report.learning_chart import FURTHER

WIDTH, HEIGHT = 640, 200
"""Pixels of a panel's plotting area."""


def to_svg(history: History) -> str:
    """Return the chart as an SVG file."""
    import vl_convert

    return vl_convert.vegalite_to_svg(specification(history))


def to_png(history: History) -> bytes:
    """Return the chart as a PNG file."""
    import vl_convert

    return vl_convert.vegalite_to_png(specification(history), scale=2)


def specification(history: History) -> dict[str, Any]:
    """Return the Vega-Lite specification: points with intervals, and a line at each change."""
    labels = list(dict.fromkeys(one.label for one in history.series))
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "background": "white",
        "vconcat": [
            _panel(history, title, values, labels) for title, values in _rows(history).items()
        ],
    }


def _rows(history: History) -> dict[str, list[dict[str, Any]]]:
    """Return title of a group -> its points; a point after a change says so."""
    groups = {}
    for title, series in by_group(history).items():
        groups[title] = [
            {
                "folder": point.folder + 1,
                "cell": one.label,
                "ratio": point.comparison.ratio,
                "low": point.comparison.low,
                "high": point.comparison.high,
                "changed": one.change_at(index) is not None,
            }
            for one in series
            for index, point in enumerate(one.points)
        ]
    return groups


def _panel(
    history: History, title: str, values: list[dict[str, Any]], labels: list[str]
) -> dict[str, Any]:
    colors = [FURTHER[i % len(FURTHER)] for i in range(len(labels))]
    color = {
        "field": "cell",
        "type": "nominal",
        "title": None,
        "scale": {"domain": labels, "range": colors},
        "legend": {"orient": "bottom", "columns": 3, "labelLimit": 300},
    }
    numbers = list(range(1, len(history.folders) + 1))
    x = {
        "field": "folder",
        "type": "ordinal",
        "title": "folder",
        "scale": {"domain": numbers},
        "axis": {"labelAngle": 0},
    }
    y = {"type": "quantitative", "title": "times as fast", "scale": {"zero": False}}
    change = {
        "transform": [{"filter": "datum.changed"}],
        "mark": {"type": "rule", "strokeDash": [4, 3], "strokeWidth": 1.5},
        "encoding": {"x": x, "color": color},
    }
    interval = {
        "mark": {"type": "rule", "opacity": 0.6},
        "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": color},
    }
    line = {
        "mark": {"type": "line", "point": True, "strokeWidth": 1.5},
        "encoding": {"x": x, "y": {**y, "field": "ratio"}, "color": color},
    }
    return {
        "title": {"text": title, "anchor": "start", "limit": WIDTH},
        "width": WIDTH,
        "height": HEIGHT,
        "data": {"values": values},
        "layer": [change, interval, line],
    }
