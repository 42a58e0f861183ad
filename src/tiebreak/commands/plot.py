"""`tiebreak plot`: learning curves of training runs, over seeds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tiebreak.commands.options import Parser, print_json
from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiebreak.report.learning import Line

KINDS = (".svg", ".png", ".csv")


def parser() -> Parser:
    """Return the parser of `tiebreak plot`."""
    out = Parser(
        "plot",
        "Plot learning curves: greedy returns of runs that were evaluated during training\n"
        "(train --eval-every N). Runs that differ in nothing but the seed are one line: the\n"
        "interquartile mean over seeds, with its 95 % bootstrap interval as a band.",
        [
            "tiebreak plot runs/sac-s0 runs/sac-s1 runs/sac-s2",
            "tiebreak plot runs --over minutes -o curves.png",
            "tiebreak plot runs -o curves.csv",
        ],
    )
    out.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="a run, or a folder of runs")
    out.add_argument(
        "-o", metavar="FILE", dest="out", default="curves.svg", help="FILE.svg, .png or .csv"
    )
    out.add_argument("--over", default="steps", help="horizontal axis: steps or minutes")
    out.add_json()
    return out


def run(args: argparse.Namespace) -> int:
    """Print where each line ends, and write the chart."""
    from tiebreak.report.learning import AXES, make_lines, read_curves, to_rows

    out = Path(args.out)
    if args.over not in AXES:
        raise unknown("axis", args.over, AXES)
    if out.suffix not in KINDS:
        raise UsageError(f"-o takes a file that ends in .svg, .png or .csv, got {args.out!r}")
    curves = read_curves(args.runs)
    lines = make_lines(curves, args.over)
    if args.json:
        print_json(to_rows(lines, args.over))
        return 0
    tasks = dict.fromkeys(str(curve.about["task"]) for curve in curves)
    _write(out, lines, args.over, ", ".join(tasks))
    _print(lines)
    print(f"curves: {out}")
    return 0


def _write(out: Path, lines: Sequence[Line], axis: str, title: str) -> None:
    from tiebreak.report import assets, learning, learning_chart

    if out.suffix == ".csv":
        data: str | bytes = assets.to_csv(learning.to_rows(lines, axis))
    elif out.suffix == ".png":
        data = learning_chart.to_png(lines, axis, title)
    else:
        data = learning_chart.to_svg(lines, axis, title)
    try:
        write_atomic(out, data)
    except OSError as error:
        raise UsageError(f"cannot write {str(out)!r}: {error.strerror}") from error


def _print(lines: Sequence[Line]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("line", "seeds", "last return", "95 % interval", box=SIMPLE_HEAD)
    for line in sorted(lines, key=lambda line: -line.value[-1]):
        interval = "one seed has none"
        if line.low is not None and line.high is not None:
            interval = f"{line.low[-1]:.1f} to {line.high[-1]:.1f}"
        table.add_row(Text(line.label), str(len(line.seeds)), f"{line.value[-1]:.1f}", interval)
    Console().print(table)
