"""Rung L2: a hundred updates on recorded batches, compared with the oracle at their end."""

from __future__ import annotations

from typing import Any

import numpy as np

from tiebreak.frameworks.numpy.ops import to_float64
from tiebreak.verify.case import Case, cast, perturbed_weights
from tiebreak.verify.compare import CONTROL_FACTOR, ErrorTable, tree_error
from tiebreak.verify.parity import group, make_agent

UPDATES = 100


def record(case: Case, weights: dict) -> tuple[list, dict]:
    """Record batches along the oracle's path of UPDATES updates; return them and its weights."""
    batches, exact = [], to_float64(weights)
    for index in range(UPDATES // case.config.updates_per_step):
        batch = case.cases.batch_near(case, exact, index)
        exact, _ = case.oracle.step(case.spec, case.config, exact, *batch)
        batches.append(batch)
    return batches, exact


def follow(agent: Any, weights: dict, batches: list, precision: str) -> dict[str, np.ndarray]:
    """Step through `batches` from `weights`; return the dump."""
    state = agent.load(cast(weights, precision))
    for batch in batches:
        state, _ = agent.step(state, *cast(batch, precision))
    return agent.dump(state)


def check_lockstep(errors: ErrorTable, runtime: Any, case: Case) -> None:
    """Compare with the oracle; in float32, relative to a control.

    The control is the same framework, started one ulp away in every weight: the nearest of three.
    """
    agent = make_agent(runtime, case)
    weights = perturbed_weights(case)
    batches, want = record(case, weights)
    got = follow(agent, weights, batches, runtime.precision)
    quantity = f"{UPDATES} updates"
    if runtime.precision == "float64":
        errors.compare(runtime.mode, case, "L2", quantity, got, want, "lockstep")
        return
    worst, reason = None, ""
    try:
        worst = tree_error(got, want) / _control(agent, weights, batches, got)
    except (ValueError, ZeroDivisionError) as problem:
        reason = str(problem)
    errors.enter(runtime.mode, case, "L2", f"{quantity} / control", worst, CONTROL_FACTOR, reason)


def _control(agent: Any, weights: dict, batches: list, got: dict) -> float:
    """Return how far this framework ends from `got` if every weight starts one ulp away.

    The nearest of three: all up, all down, mixed. Weight decay lets updates forget their start, so
    that a control can end exactly at `got`: the distance is at least float32's step at 1.
    """
    rng, distances = np.random.default_rng(0), []
    for sign in (
        lambda shape: 1.0,
        lambda shape: -1.0,
        lambda shape: rng.choice([-1.0, 1.0], shape),
    ):
        moved = {
            k: np.nextafter(v, np.float32(np.inf) * np.float32(sign(v.shape)))
            for k, v in group(weights, "weights").items()
        }
        end = follow(agent, {**weights, **moved}, batches, "float32")
        distances.append(tree_error(end, got))
    return max(min(distances), float(np.finfo(np.float32).eps))
