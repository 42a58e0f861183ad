"""The comparison of two results folders, for machines."""

from __future__ import annotations

from typing import Any

from tiebreak.core.text import nan_to_null
from tiebreak.stats.compare import Compared, Pair
from tiebreak.stats.regression_limit import Gate
from tiebreak.stats.result_set import Side
from tiebreak.stats.summaries import CellSummary


def to_json(compared: Compared, folders: tuple[str, str], gate: Gate | None) -> dict[str, Any]:
    """The whole comparison, JSON-ready; what is not finite becomes None."""
    verdict = gate and {
        "limit": gate.limit,
        "passed": gate.passed,
        **{key: [p.cell_id for p in getattr(gate, key)] for key in ("slower", "broke", "blind")},
    }
    return nan_to_null(
        {
            "a": _side(compared.a, folders[0]),
            "b": _side(compared.b, folders[1]),
            "same_hardware": compared.same_hardware,
            "differences": {fact.name: [fact.a, fact.b] for fact in compared.differences},
            "relative_to": compared.relative_to,
            "machine_moved": compared.shift and compared.shift._asdict(),
            "allowance": compared.allowance,
            "obstacle": compared.obstacle,
            "cells": [_pair(pair) for pair in compared.pairs],
            "only_a": [list(cell) for cell in compared.only_a],
            "only_b": [list(cell) for cell in compared.only_b],
            "fail_over": verdict,
        }
    )


def _side(side: Side, folder: str) -> dict[str, Any]:
    about = {"folder": folder, "runs": sorted(side.runs), "left_out": side.left_out}
    return {**about, "fingerprint": side.fingerprint, "machine": dict(side.machine)}


def _pair(pair: Pair) -> dict[str, Any]:
    keys = ("ratio", "low", "high", "p", "p_holm", "detectable", "verdict")
    change = pair.change and {key: getattr(pair.change, key) for key in keys}
    return {
        "cell_id": pair.cell_id,
        "group": pair.group,
        "label": pair.a.label,
        "a": _cell(pair.a),
        "b": _cell(pair.b),
        "change": change,
        "no_verdict_because": pair.why,
    }


def _cell(cell: CellSummary) -> dict[str, Any]:
    keys = ("visits", "seconds_per_unit", "units_per_s", "memory_bytes", "slope_bytes_per_call")
    return {
        **{key: getattr(cell, key) for key in keys},
        "flags": {flag.name: flag.value for flag in cell.flags},
        "failures": {failure.reason: list(failure.blocks) for failure in cell.failures},
    }
