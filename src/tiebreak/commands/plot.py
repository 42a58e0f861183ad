"""`tiebreak plot`: learning curves and final returns of training runs, over seeds."""

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

FILES = (".svg", ".png", ".csv")


def parser() -> Parser:
    """Return the parser of `tiebreak plot`."""
    out = Parser(
        "plot",
        "Plot learning curves: greedy returns of runs that were evaluated during training\n"
        "(train --eval-every N). Runs that differ in nothing but the seed are one line: the\n"
        "interquartile mean over seeds, with its 95 % bootstrap interval as a band. Or draw what\n"
        "each seed came to in the end, or the share of seeds above each return.",
        [
            "tiebreak plot runs/sac-s0 runs/sac-s1 runs/sac-s2",
            "tiebreak plot runs --over minutes -o curves.png",
            "tiebreak plot runs --kind seeds -o seeds.svg",
            "tiebreak plot runs -o curves.csv",
        ],
    )
    out.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="a run, or a folder of runs")
    out.add_argument(
        "-o", metavar="FILE", dest="out", default="curves.svg", help="FILE.svg, .png or .csv"
    )
    out.add_argument("--kind", default="curves", help="curves, profiles or seeds")
    out.add_argument("--over", default="steps", help="horizontal axis: steps or minutes")
    out.add_json()
    return out


def run(args: argparse.Namespace) -> int:
    """Print what each line came to, and write the chart."""
    from tiebreak.report.learning import AXES, make_lines, read_curves
    from tiebreak.report.learning_chart import KINDS, rows

    out = Path(args.out)
    if args.over not in AXES:
        raise unknown("axis", args.over, AXES)
    if args.kind not in KINDS:
        raise unknown("kind", args.kind, KINDS)
    if out.suffix not in FILES:
        raise UsageError(f"-o takes a file that ends in .svg, .png or .csv, got {args.out!r}")
    curves = read_curves(args.runs)
    lines = make_lines(curves, args.over)
    if args.json:
        print_json(rows(lines, args.kind, args.over))
        return 0
    tasks = dict.fromkeys(str(curve.about["task"]) for curve in curves)
    _write(out, lines, args, ", ".join(tasks))
    _print(lines)
    print(f"{args.kind}: {out}")
    return 0


def _write(out: Path, lines: Sequence[Line], args: argparse.Namespace, title: str) -> None:
    from tiebreak.report import assets, learning_chart

    if out.suffix == ".csv":
        data: str | bytes = assets.to_csv(learning_chart.rows(lines, args.kind, args.over))
    elif out.suffix == ".png":
        data = learning_chart.to_png(lines, args.kind, args.over, title)
    else:
        data = learning_chart.to_svg(lines, args.kind, args.over, title)
    try:
        write_atomic(out, data)
    except OSError as error:
        raise UsageError(f"cannot write {str(out)!r}: {error.strerror}") from error


def _print(lines: Sequence[Line]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from tiebreak.report.learning_results import summary_rows

    heads = ("line", "seeds", "final return", "95 % interval", "first is better")
    table = Table(*heads, box=SIMPLE_HEAD)
    for row in summary_rows(lines):
        ends = "one seed has none"
        if row["final_low"] is not None:
            ends = f"{row['final_low']:.1f} to {row['final_high']:.1f}"
        better = "" if row["below_first"] is None else f"{row['below_first']:.0%}"
        table.add_row(Text(row["line"]), str(row["seeds"]), f"{row['final']:.1f}", ends, better)
    Console().print(table)
