"""Write a page's charts as SVG and PNG, and its tables as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tiebreak.core.errors import UsageError
from tiebreak.core.files import write_atomic
from tiebreak.report import palette, phrases
from tiebreak.report.bars import START_UP, BarChart
from tiebreak.report.html import environment
from tiebreak.report.page import FolderView, Page
from tiebreak.report.svg import layout

PNG_SCALE = 2
"""Pixels of a PNG for each of its SVG."""

COMPARED = (
    "blocks", "ratio", "low", "high", "method", "t_low", "t_high", "bootstrap_low",
    "bootstrap_high", "detectable",
)  # fmt: skip
"""Fields of a comparison with the reference that are written."""

Row = Mapping[str, Any]
"""One row of a table: heading -> value."""


def write_assets(page: Page, folder: Path) -> list[Path]:
    """Write charts and tables into a folder, which is created, and return the files.

    Raises UsageError if the folder cannot be written.
    """
    files: dict[str, str | bytes] = {}
    for name, chart in _named(_charts(page)).items():
        svg = to_svg(chart)
        files[f"{name}.svg"] = svg
        files[f"{name}.png"] = to_png(svg)
    return _write({**files, **_csv_files(page)}, Path(folder))


def write_tables(page: Page, folder: Path) -> list[Path]:
    """Write tables alone, as `write_assets`."""
    return _write(_csv_files(page), Path(folder))


def _csv_files(page: Page) -> dict[str, str]:
    return {f"{name}.csv": to_csv(rows) for name, rows in _tables(page).items() if rows}


def _write(files: Mapping[str, str | bytes], folder: Path) -> list[Path]:
    try:
        for name, content in files.items():
            write_atomic(folder / name, content)
    except OSError as error:
        raise UsageError(f"cannot write into {str(folder)!r}: {error.strerror}") from error
    return [folder / name for name in files]


def to_svg(chart: BarChart) -> str:
    """Return a chart as an SVG file."""
    template = environment().get_template("chart.svg.j2")
    return template.render(chart=chart, layout=layout(chart), colors=palette.SERIES)


def to_png(svg: str) -> bytes:
    """Return an SVG as a PNG file."""
    import vl_convert

    return vl_convert.svg_to_png(svg, scale=PNG_SCALE)


def to_csv(rows: Sequence[Row]) -> str:
    """Return rows that have the same headings as CSV; None becomes an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _charts(page: Page) -> list[BarChart]:
    if page.across:
        return list(page.across.charts)
    return [chart for view in page.folders for _, chart in view.charts]


def _named(charts: Sequence[BarChart]) -> dict[str, BarChart]:
    """Return charts by file name without its suffix: `time-halfcheetah-v4`."""
    named: dict[str, BarChart] = {}
    for chart in charts:
        stem = "time-" + re.sub(r"[^a-z0-9]+", "-", chart.name.lower()).strip("-")
        name, number = stem, 1
        while name in named:
            number += 1
            name = f"{stem}-{number}"
        named[name] = chart
    return named


def _tables(page: Page) -> dict[str, list[Row]]:
    views = page.folders
    tables: dict[str, list[Row]] = {
        "times": [row for view in views for row in _time_rows(view)],
        "ceilings": [row for view in views for row in _ceiling_rows(view)],
        "speed": [row for view in views for row in _speed_rows(view)],
        "cells": [row for view in views for row in _cell_rows(view)],
    }
    if page.across:
        headings = ("task", *page.across.headings)
        tables["machines"] = [
            dict(zip(headings, (part.task, *row), strict=True))
            for part in page.across.sections
            for row in part.rows
        ]
    shown = [table for view in views for table in view.cross_tables]
    for number, table in enumerate(shown, 1):
        tables[f"cross-{number}"] = [
            dict(zip(table.headings, row, strict=True)) for row in table.rows
        ]
    return tables


def _time_rows(view: FolderView) -> Iterator[Row]:
    for card, chart in view.charts:
        for one in card.times:
            yield {
                "folder": view.data.name,
                "task": chart.name,
                "cell": one.name,
                "label": phrases.name(one.cell),
                "unit": card.group.unit,
                "seconds_per_million": one.total_s,
                "low_s": None if one.low_s is None else one.start_s + one.low_s,
                "high_s": None if one.high_s is None else one.start_s + one.high_s,
                "start_s": one.start_s,
                "barred": " ".join(one.barred),
            }


def _ceiling_rows(view: FolderView) -> Iterator[Row]:
    """Yield cells of other engines, in a table of their own: nobody should rank them."""
    for card, chart in view.charts:
        for one in card.ceilings:
            yield {
                "folder": view.data.name,
                "shown_beside": chart.name,
                "cell": one.name,
                "unit": card.group.unit,
                "seconds_per_million": one.total_s,
                "start_s": one.start_s,
                "note": phrases.NOT_COMPARABLE,
            }


def _speed_rows(view: FolderView) -> Iterator[Row]:
    shown = [
        (row, column, cell)
        for table in view.heat
        for section in table.sections
        for row in section.rows
        for column, cell in zip(table.columns, row.cells, strict=True)
    ]
    for row, column, cell in shown:
        if cell.value is not None:
            yield {
                "folder": view.data.name,
                "group": row.group,
                "fingerprint": row.fingerprint,
                "probe": row.probe,
                "column": column,
                "ratio": cell.value,
                "low": cell.low,
                "high": cell.high,
                "barred": cell.barred,
            }


def _cell_rows(view: FolderView) -> Iterator[Row]:
    for group in view.data.groups:
        for cell in group.cells:
            yield {
                "folder": view.data.name,
                "group": group.group,
                "fingerprint": group.fingerprint,
                "cell": phrases.name(cell),
                "framework": cell.cell["framework"],
                "mode": cell.cell["mode"],
                "unit": group.unit,
                "runs": cell.visits,
                "seconds_per_unit": cell.seconds_per_unit,
                "units_per_s": cell.units_per_s,
                "verdict": phrases.verdict(cell, group),
                **{name: getattr(cell.comparison, name, None) for name in COMPARED},
                **{f"{phase}_s": cell.phases_s.get(phase) for phase in START_UP},
                "peak_memory_bytes": cell.memory_bytes,
                "live_bytes": cell.live_bytes,
                "slope_bytes_per_call": cell.slope_bytes_per_call,
                "barred": " ".join(cell.barred),
                "flags": " ".join(flag.name for flag in cell.flags),
            }
