"""Tables of documents about one training in many processes: measured, and predicted beyond."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tiebreak.core.errors import UsageError
from tiebreak.report.markdown import table
from tiebreak.training.scaling import LINKS, Exchange, Link, exchange_s

FILE = "docs/devices.json"
"""What `python -m tiebreak.training.scaling` has measured, from the repository's folder."""
HERE = "this machine, gloo"


def devices(results: Path, paths: Sequence[str], options: Mapping[str, str]) -> Iterator[str]:
    """Yield a row for each algorithm and link: how many times as fast so many ranks are as one."""
    if paths or options:
        raise UsageError("the table devices takes no words: it is of all that was measured")
    measured = json.loads((results.parent / FILE).read_text(encoding="utf-8"))
    links = {HERE: Link(**measured["link"]), **LINKS}
    first = next(iter(measured["cases"].values()))
    counts = sorted(first["ranks"], key=int)[1:]
    rows = [
        _row(algorithm, case, name, link, counts)
        for algorithm, case in measured["cases"].items()
        for name, link in links.items()
    ]
    yield from table(["", "link", "two, measured", *counts], rows)


def sent(results: Path, paths: Sequence[str], options: Mapping[str, str]) -> Iterator[str]:
    """Yield a row for each algorithm: what one of two ranks sends in an iteration."""
    if paths or options:
        raise UsageError("the table sent takes no words: it is of all that was measured")
    measured = json.loads((results.parent / FILE).read_text(encoding="utf-8"))
    rows = []
    for algorithm, case in measured["cases"].items():
        alone, two = case["ranks"]["1"], case["ranks"]["2"]
        exchange = _exchange(two)
        rows.append(
            [
                algorithm,
                f"{1e3 * alone['own_s']:.1f} ms",
                f"{1e3 * two['own_s']:.1f} ms",
                f"{exchange.gathers} × {exchange.gathered_bytes / exchange.gathers / 1e3:.0f} kB",
                f"{exchange.reductions} × "
                f"{exchange.reduced_bytes / exchange.reductions / 1e3:.0f} kB",
            ]
        )
    heads = ["", "iteration alone", "own work of one of two", "gathered", "averaged"]
    yield from table(heads, rows)


def speedup(case: Mapping[str, Any], link: Link, count: str) -> float:
    """Return how many times as fast `count` ranks are as one, by the model."""
    entry = case["ranks"][count]
    seconds = entry["own_s"] + exchange_s(_exchange(entry), link, int(count))
    return case["ranks"]["1"]["own_s"] / seconds


def _row(
    algorithm: str, case: Mapping[str, Any], name: str, link: Link, counts: Sequence[str]
) -> list[str]:
    measured = f"{case['ranks']['1']['own_s'] / case['two_s']:.2f}" if name == HERE else ""
    predicted = [f"{speedup(case, link, count):.1f}" for count in counts]
    return [algorithm, name, measured, *predicted]


def _exchange(entry: Mapping[str, Any]) -> Exchange:
    return Exchange(*(entry[name] for name in Exchange._fields))


KINDS = {"devices": devices, "devices-sent": sent}
