"""The comparison of two results folders as JSON."""

from __future__ import annotations

from typing import Any

from tiebreak.core.text import nan_to_null
from tiebreak.stats.compare import CellPair, FolderComparison
from tiebreak.stats.regression_limit import LimitCheck
from tiebreak.stats.result_set import ResultSet
from tiebreak.stats.summaries import CellSummary


def to_json(
    compared: FolderComparison, folders: tuple[str, str], check: LimitCheck | None
) -> dict[str, Any]:
    """Return the whole comparison as JSON-ready values; NaN and infinities become None."""
    return nan_to_null(
        {
            "a": _results(compared.a, folders[0]),
            "b": _results(compared.b, folders[1]),
            "same_hardware": compared.same_hardware,
            "differences": {fact.name: [fact.a, fact.b] for fact in compared.differences},
            "relative_to": compared.relative_to,
            "machine_moved": compared.shift._asdict() if compared.shift else None,
            "allowance": compared.allowance,
            "obstacle": compared.obstacle,
            "cells": [_pair(pair) for pair in compared.pairs],
            "only_a": [list(cell) for cell in compared.only_a],
            "only_b": [list(cell) for cell in compared.only_b],
            "fail_over": _check(check) if check else None,
        }
    )


def _check(check: LimitCheck) -> dict[str, Any]:
    return {
        "limit": check.limit,
        "passed": check.passed,
        "slower": [pair.cell_id for pair in check.slower],
        "broke": [pair.cell_id for pair in check.broke],
        "blind": [pair.cell_id for pair in check.unsure],  # the name in earlier versions
        "unsure": [pair.cell_id for pair in check.unsure],
        "suspect": [pair.cell_id for pair in check.suspect],
    }


def _results(results: ResultSet, folder: str) -> dict[str, Any]:
    return {
        "folder": folder,
        "runs": sorted(results.runs),
        "left_out": results.left_out,
        "fingerprint": results.fingerprint,
        "machine": dict(results.machine),
    }


def _pair(pair: CellPair) -> dict[str, Any]:
    change = pair.change
    return {
        "cell_id": pair.cell_id,
        "group": pair.group,
        "label": pair.a.label,
        "a": _cell(pair.a),
        "b": _cell(pair.b),
        "change": change
        and {
            "ratio": change.ratio,
            "low": change.low,
            "high": change.high,
            "p": change.p,
            "p_holm": change.p_holm,
            "detectable": change.detectable,
            "verdict": change.verdict,
        },
        "no_verdict_because": pair.why,
    }


def _cell(cell: CellSummary) -> dict[str, Any]:
    return {
        "visits": cell.visits,
        "seconds_per_unit": cell.seconds_per_unit,
        "units_per_s": cell.units_per_s,
        "memory_bytes": cell.memory_bytes,
        "slope_bytes_per_call": cell.slope_bytes_per_call,
        "flags": {flag.name: flag.value for flag in cell.flags},
        "failures": {failure.reason: list(failure.blocks) for failure in cell.failures},
    }
