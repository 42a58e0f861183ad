"""Write training runs as one HTML page, which loads nothing and runs nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tiebreak
from tiebreak.core.errors import UsageError
from tiebreak.core.files import write_atomic
from tiebreak.core.text import plural
from tiebreak.report import html, learning_chart
from tiebreak.report.learning import Curve, Line, make_lines, read_curves
from tiebreak.report.learning_results import seed_rows, summary_rows


class TaskView(NamedTuple):
    """The runs of one task."""

    task: str
    sentence: str
    """Which line ended highest, and how sure that is."""
    summary: list[dict[str, Any]]
    seeds: list[dict[str, Any]]
    charts: list[tuple[str, str]]
    """Caption and SVG of each chart."""


def write_training_page(folders: Sequence[Path], out: Path) -> Path:
    """Write the page about runs, each of which was evaluated during training; return its path.

    Raises UsageError for folders that hold no such run, and if `out` cannot be written.
    """
    curves = read_curves(folders)
    tasks = dict.fromkeys(str(curve.about["task"]) for curve in curves)
    views = [_view(task, [c for c in curves if c.about["task"] == task]) for task in tasks]
    page = html.environment().get_template("training.html.j2")
    text = page.render(
        views=views,
        title=" ".join(f"{view.sentence}" for view in views),
        settings=_settings(curves),
        runs=plural(len(curves), "run"),
        version=tiebreak.__version__,
        style=html.style(),
    )
    try:
        write_atomic(out, text)
    except OSError as error:
        raise UsageError(f"cannot write the report to {str(out)!r}: {error.strerror}") from error
    return out


def _view(task: str, curves: Sequence[Curve]) -> TaskView:
    lines = make_lines(curves, "steps")
    minutes = make_lines(curves, "minutes")
    summary = summary_rows(lines)
    charts = [
        ("Greedy return over environment steps", _svg(lines, "curves", "steps")),
        ("Greedy return over minutes of training", _svg(minutes, "curves", "minutes")),
        ("Final return of each seed", _svg(lines, "seeds", "steps")),
    ]
    if any(len(line.seeds) > 1 for line in lines):
        charts.append(("Performance profile", _svg(lines, "profiles", "steps")))
    return TaskView(task, _sentence(task, summary), summary, seed_rows(lines), charts)


def _svg(lines: Sequence[Line], kind: str, axis: str) -> str:
    return learning_chart.to_svg(lines, kind, axis, "")


def _sentence(task: str, summary: Sequence[dict[str, Any]]) -> str:
    """Return what the runs of a task came to, in one sentence."""
    name = task.partition("/")[2]
    best = summary[0]
    ended = f"{best['final']:.1f}"
    if best["final_low"] is not None:
        ended += f" [{best['final_low']:.1f}, {best['final_high']:.1f}]"
    seeds = plural(best["seeds"], "seed")
    if len(summary) == 1:
        return f"On {name}, {best['line']} ends at {ended} ({seeds})."
    second = summary[1]
    text = f"On {name}, {best['line']} ends highest, at {ended} ({seeds})"
    if second["below_first_low"] is None:
        return f"{text}; two seeds of each line would show how sure that is."
    if second["below_first_low"] > 0.5:
        return f"{text}; it beats {second['line']} with probability {second['below_first']:.0%}."
    if second["as_first"] == "same":
        return (
            f"{text}; {second['line']} is shown to be the same over the training, within a "
            "standard deviation between seeds."
        )
    return f"{text}, but it is not told apart from {second['line']}."


def _settings(curves: Sequence[Curve]) -> list[tuple[str, str]]:
    """Return (name, value) of what the runs have in common, then of what differs."""
    names = dict.fromkeys(name for curve in curves for name in curve.about)
    rows = []
    for name in names:
        values = dict.fromkeys(json.dumps(curve.about.get(name)) for curve in curves)
        rows.append((name, " | ".join(values)))
    return rows
