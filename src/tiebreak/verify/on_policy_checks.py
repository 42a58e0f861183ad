"""Checks of on-policy steps: prepared rows, losses, gradients and updates against the oracle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.core.types import Agent
from tiebreak.frameworks.numpy.ops import to_float64
from tiebreak.verify.case import Case, cast, perturbed_weights
from tiebreak.verify.compare import ErrorTable
from tiebreak.verify.parity import check_loading


def replace_step(runtime: Any, case: Case, make: Callable) -> Agent:
    """Return the case's agent with `make(function, agent_def)` in the place of its `step`.

    `function(name)` is a function of the algorithm in the runtime's framework. The runtime executes
    what `make` returns as it executes a step.
    """

    def function(name: str) -> Callable:
        return case.function(runtime.framework, name)

    agent_def = function("make_agent_def")(case.spec, case.config, runtime.build())
    raw = registry.make_raw_agent(case.algorithm, case.spec, case.config, runtime)
    return runtime.agent(raw._replace(step=make(function, agent_def)))


def _gradient_step(function: Callable, agent_def: Any) -> Callable:
    gradients, prepare, named = (function(name) for name in ("gradients", "prepare", "named"))

    def step(state, rollout, batch):
        terms, grads = gradients(agent_def, state, batch)
        named_grads = named(agent_def, grads)
        state, rows = prepare(agent_def, state, rollout)
        return state, (rows, terms, named_grads)

    return step


def _update_step(function: Callable, agent_def: Any) -> Callable:
    update = function("update")
    return lambda state, batch, _: update(agent_def, state, batch)


def check_losses(errors: ErrorTable, runtime: Any, case: Case) -> None:
    """Check prepared rows, loss terms and raw gradients."""
    weights = cast(perturbed_weights(case), runtime.precision)
    exact = to_float64(weights)
    rollout, _ = cast(case.cases.batch_near(case, weights), runtime.precision)
    _, want_rows = case.oracle.prepare(case.spec, case.config, exact, rollout)
    batch = cast(want_rows, runtime.precision)
    agent = replace_step(runtime, case, _gradient_step)
    _, outputs = agent.step(agent.load(weights), rollout, batch)
    rows, terms, grads = runtime.to_numpy(outputs)
    want_terms, want_grads = case.oracle.gradients(case.spec, case.config, exact, batch)

    def compare(quantity: str, got: Any, want: Any, kind: str = "forward") -> None:
        errors.compare(runtime.mode, case, "L1", quantity, got, want, kind)

    given = set(rollout._fields) - {"obs", "begins"}
    for field in want_rows._fields:
        if field not in given:
            compare(f"prepare: {field}", getattr(rows, field), getattr(want_rows, field))
    for field in want_terms._fields:
        compare(f"loss: {field}", getattr(terms, field), getattr(want_terms, field))
    compare("gradients", grads, want_grads, "gradient")


def check_updates(
    errors: ErrorTable, runtime: Any, case: Case, optimizers: Sequence[str] = ("adam", "sgd")
) -> None:
    """Check an update by each optimizer: Adam's first steps hide wrong factors, SGD's do not."""
    weights = cast(perturbed_weights(case), runtime.precision)
    rollout, _ = cast(case.cases.batch_near(case, weights), runtime.precision)
    _, rows = case.oracle.prepare(case.spec, case.config, to_float64(weights), rollout)
    batch = cast(rows, runtime.precision)
    for kind in optimizers:
        changed = case.changed(optimizer=kind)
        check_update(errors, runtime, changed, weights, batch, "L1", f"update: {kind}")


def check_update(
    errors: ErrorTable,
    runtime: Any,
    case: Case,
    weights: dict,
    batch: Any,
    rung: str,
    quantity: str,
) -> None:
    """Check one gradient step: weights, optimizer moments and the gradient norm."""
    agent = replace_step(runtime, case, _update_step)
    state, metrics = agent.step(agent.load(weights), batch, np.zeros(1, runtime.precision))
    got = {**agent.dump(state), "grad_norm": runtime.to_numpy(metrics).grad_norm}
    want, want_metrics = case.oracle.update(case.spec, case.config, to_float64(weights), batch)
    want["grad_norm"] = want_metrics.grad_norm
    errors.compare(runtime.mode, case, rung, quantity, got, want, "gradient")


def check_settings(
    errors: ErrorTable, runtime: Any, case: Case, knobs: dict[str, tuple[dict, int, int]]
) -> None:
    """Check loading, and an update under each knob.

    `knobs`: name -> settings that make it decide, update count to start from, number of rows.
    """
    want = check_loading(errors, runtime, case)
    for name, (changes, count, rows) in knobs.items():
        changed = case.changed(**changes)
        weights = {**want, "adam/count": np.asarray(count, np.int32)}
        rollout, _ = cast(case.cases.batch_near(case, weights), runtime.precision)
        _, batch = case.oracle.prepare(case.spec, changed.config, to_float64(weights), rollout)
        batch = cast(type(batch)(*(x[:rows] for x in batch)), runtime.precision)
        check_update(errors, runtime, changed, weights, batch, "L0", name)
