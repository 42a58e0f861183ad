"""`tiebreak run SUITE --dry-run`: show what would be run, and for about how long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from textwrap import wrap
from typing import Any

from tiebreak.bench.machine.availability import why_unavailable
from tiebreak.bench.manager.learn import known_durations
from tiebreak.bench.suite import estimate, suite
from tiebreak.bench.suite.plan import Plan
from tiebreak.bench.suite.share import Share, take_share
from tiebreak.commands.options import print_json
from tiebreak.core.text import duration

HOW = (
    "Estimated from earlier runs on this machine; for cells that were never measured here, from "
    "runs on two cores of an AMD EPYC without a GPU. A running suite uses its own times."
)


def show(name: str, scale: str | None, device: str | None, share: str | None, json: bool) -> None:
    """Print a suite's cells, runs, blocks and time, or those of a share of it.

    Raises UsageError for anything that is wrong in the suite file.
    """
    plan = suite.load(name, scale, 0, device)
    plan = take_share(plan, Share.parse(share)) if share else plan
    missing = {cell.id: reason for cell in plan.cells if (reason := why_unavailable(cell))}
    forecast = estimate.forecast(plan, missing, known_durations())
    if json:
        print_json(_document(plan, missing, forecast))
    else:
        print("\n".join((*_cells(plan, missing), "", *_amount(plan, forecast), *wrap(HOW, 100))))


def _document(
    plan: Plan, missing: Mapping[str, str], forecast: estimate.Forecast
) -> dict[str, Any]:
    cells = [
        {**c.to_json(), "id": c.id, "group": c.group, "missing": missing.get(c.id)}
        for c in plan.cells
    ]
    return {
        "suite": plan.suite,
        "scale": plan.scale,
        "settings": asdict(plan.settings),
        "cells": cells,
        "forecast": forecast._asdict(),
        "how": HOW,
    }


def _cells(plan: Plan, missing: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each group, and below it one for each cell."""
    cells = {cell.id: cell for cell in plan.cells}
    width = max(len(cell.label) for cell in plan.cells)
    groups = plan.groups()
    yield f"suite {plan.suite}, scale {plan.scale}: {len(cells)} cells in {len(groups)} groups"
    for group, ids in groups.items():
        yield f"\n{group}"
        for cell in map(cells.__getitem__, ids):
            mode = f"{cell.framework} {cell.mode}".strip()
            line = f"  {cell.label:<{width}}  {mode:<18} {cell.loop:<6} {missing.get(cell.id, '')}"
            yield line.rstrip()


def _amount(plan: Plan, forecast: estimate.Forecast) -> Iterator[str]:
    """Yield the lines of runs, blocks and time."""
    settings = plan.settings
    scope = "all probes of a row" if settings.share_process else "one cell"
    yield f"runs    {forecast.visits_per_block} in a block, a process each, of {scope}"
    yield f"blocks  {_blocks(plan, forecast)}"
    shares = [f"{duration(forecast.block_s)} a block"]
    if forecast.first_block_s > forecast.block_s:
        shares.append(f"{duration(forecast.first_block_s)} the first, which fills the cache")
    if forecast.calibration_s:
        shares.append(f"{duration(forecast.calibration_s)} to calibrate")
    if forecast.certificate_s:
        shares.append(f"{duration(forecast.certificate_s)} to prove the frameworks equal")
    yield f"time    {_total(forecast)}: {', '.join(shares)}"


def _total(forecast: estimate.Forecast) -> str:
    least, most = duration(forecast.least_s), duration(forecast.most_s)
    total = f"about {most}" if least == most else f"about {least} to {most}"
    return total if forecast.certificate_s is not None else f"{total}, and the full certificate"


def _blocks(plan: Plan, forecast: estimate.Forecast) -> str:
    settings, most = plan.settings, forecast.most_blocks
    if forecast.least_blocks < most:
        width = f"{100 * settings.half_width:.3g}"
        return f"{forecast.least_blocks} to {most}: until each interval is ± {width} % or narrower"
    if most < settings.blocks:
        return f"about {most} of {settings.blocks}: no more fit into budget_s and limit_s"
    return str(most)
