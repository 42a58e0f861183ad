"""Inputs of one update of the oracle, from an algorithm's case."""

from __future__ import annotations

from typing import Any

from tiebreak.frameworks.numpy.ops import to_float64
from tiebreak.verify.case import Case, perturbed_weights
from tiebreak.verify.off_policy_checks import first_update


def off_policy_inputs(case: Case) -> tuple[dict, Any, Any]:
    """Return float64 weights, and the features and noise of the first update."""
    weights = to_float64(perturbed_weights(case))
    batch, noise = case.cases.batch_near(case, weights)
    rows = case.oracle.prepare(case.spec, case.config, weights, batch)
    return weights, first_update(rows), first_update(noise)


def on_policy_inputs(case: Case) -> tuple[dict, Any]:
    """Return float64 weights and all rows of one prepared rollout."""
    weights = to_float64(perturbed_weights(case))
    rollout, _ = case.cases.batch_near(case, weights)
    _, rows = case.oracle.prepare(case.spec, case.config, weights, rollout)
    return weights, rows
