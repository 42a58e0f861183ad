"""Hold one or two agents of a user's against the oracle, in float64 and in float32."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import tiebreak
from tiebreak.core.errors import UsageError
from tiebreak.verify.against.comparison import (
    Cell,
    Comparison,
    compare_traces,
    make_bounds,
    ratio,
)
from tiebreak.verify.against.explanation import Explanation, describe, explain
from tiebreak.verify.against.problem import Problem, make_problem
from tiebreak.verify.against.process import ask_agent
from tiebreak.verify.against.rules import rules_of, term_names
from tiebreak.verify.against.trace import Trace, trace_oracle
from tiebreak.verify.against.worker import Answer, Request
from tiebreak.verify.compare import NOT_COMPARABLE

PRECISIONS = ("float64", "float32")
ORACLE = "oracle"
"""Name of the oracle in results."""


class Side(NamedTuple):
    """One of two traces that are compared."""

    name: str
    trace: Trace


def check_agents(algorithm: str, agents: Sequence[str]) -> dict[str, Any]:
    """Compare agents with the oracle, and two agents with each other; return all as plain values.

    agents: one or two, as `module:Class` or `file.py:Class`. With two, `green` says whether they
    agree with each other. Raises UsageError, on one line, for errors in their code, too.
    """
    rules_of(algorithm)
    if not 1 <= len(agents) <= 2:
        raise UsageError("--against takes one agent, or two to compare, as my_module:Agent")
    comparisons: list[dict[str, Any]] = []
    notes: list[str] = []
    problem = None
    for precision in PRECISIONS:
        answers = [ask_agent(Request(algorithm, name, precision)) for name in agents]
        problem = _problem(algorithm, agents, answers)
        narrow = [n for n, a in zip(agents, answers, strict=True) if a.notes["dtype"] != precision]
        if narrow and precision == "float64":
            notes += [_narrow(name) for name in narrow]
            continue
        notes += _notes(algorithm, agents, answers)
        sides = [Side(n, a.updates) for n, a in zip(agents, answers, strict=True)]
        comparisons += _compare(problem, sides, precision, explained=not comparisons)
    assert problem is not None
    decisive = decisive_comparisons(comparisons)
    return {
        "schema": 1,
        "created_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "version": tiebreak.__version__,
        "against": algorithm,
        "agents": list(agents),
        "problem": problem.case.describe(),
        "updates": len(problem.calls),
        "green": bool(decisive) and all(c["first"] is None for c in decisive),
        "notes": list(dict.fromkeys(notes)),
        "comparisons": comparisons,
    }


def decisive_comparisons(comparisons: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the comparisons that decide: of two agents, if there are two, else with the oracle."""
    return [c for c in comparisons if c["other"] != ORACLE] or list(comparisons)


def _problem(algorithm: str, agents: Sequence[str], answers: Sequence[Answer]) -> Problem:
    """Return the problem that all agents were given; raise UsageError if they were given two."""
    wanted = [(answer.actions, answer.settings) for answer in answers]
    problems = [make_problem(algorithm, actions, settings) for actions, settings in wanted]
    if len({(problem.case.spec, problem.case.config) for problem in problems}) > 1:
        raise UsageError(
            f"{agents[0]} and {agents[1]} ask for different settings: {wanted[0][1]} and "
            f"{wanted[1][1]}; give both the same"
        )
    return problems[0]


def _compare(
    problem: Problem, sides: Sequence[Side], precision: str, explained: bool
) -> list[dict[str, Any]]:
    want = trace_oracle(problem)
    bounds = make_bounds(problem, want, precision)
    out = []
    for side in sides:
        comparison = compare_traces(problem.algorithm, side.trace, want, bounds)
        found = None
        if explained and comparison.first is not None:
            found = explain(problem, side.trace, bounds)
        entry = _entry(side, Side(ORACLE, want), precision, comparison)
        out.append({**entry, **_explanation(found, side)})
    if len(sides) == 2:
        one, other = sides
        comparison = compare_traces(problem.algorithm, one.trace, other.trace, bounds)
        out.append({**_entry(one, other, precision, comparison), **_explanation(None, one)})
    return out


def _entry(one: Side, other: Side, precision: str, comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as plain values."""
    rows = []
    for label in comparison.order:
        shown = comparison.column(label)
        if shown is not None:
            update, cell = shown
            rows.append({"term": label, "update": update + 1, **_cell(cell)})
    return {
        "one": one.name,
        "other": other.name,
        "precision": precision,
        "rows": rows,
        "worst": comparison.worst,
        "first": _first(comparison, one.trace, other.trace),
    }


def _cell(cell: Cell) -> dict[str, Any]:
    fields = {"error": cell.worst, "bound": cell.bound, "ok": cell.ok, "reason": cell.reason}
    return {**fields, "array": cell.name}


def _first(comparison: Comparison, got: Trace, want: Trace) -> dict[str, Any] | None:
    """Return where two traces differ first, with the two numbers that differ most."""
    if comparison.first is None:
        return None
    index, label = comparison.first
    cell = comparison.updates[index][label]
    one, other = (np.asarray(trace[index][cell.name]) for trace in (got, want))
    found = {"term": label, "update": index + 1, **_cell(cell)}
    if cell.worst == NOT_COMPARABLE:
        return {**found, "got": None, "want": None, "factor": None}
    one, other = (np.squeeze(np.asarray(x, np.float64)) for x in (one, other))
    if one.shape != other.shape:
        one, other = one.mean(), other.mean()
    where = int(np.argmax(np.abs(one - other) / np.maximum(1.0, np.abs(other))))
    got_one, want_one = float(np.ravel(one)[where]), float(np.ravel(other)[where])
    return {**found, "got": got_one, "want": want_one, "factor": ratio(one, other)}


def _explanation(found: Explanation | None, side: Side) -> dict[str, Any]:
    """Return the deviations that explain the differences, and what they leave."""
    if found is None or not found.deviations:
        return {"deviations": [], "remaining": None, "explained": False}
    return {
        "deviations": [describe(deviation) for deviation in found.deviations],
        "remaining": _first(found.remaining, side.trace, found.want),
        "explained": found.remaining.first is None,
        "explained_worst": found.remaining.worst,
    }


def _narrow(name: str) -> str:
    return (
        f"{name} keeps float32 weights when it is given float64: compared in float32 only. "
        "spec.precision says which type is wanted."
    )


def _notes(algorithm: str, agents: Sequence[str], answers: Sequence[Answer]) -> list[str]:
    """Return what a reader should know about how arrays and terms were matched."""
    out = []
    for name, answer in zip(agents, answers, strict=True):
        if answer.notes["transposed"]:
            out.append(f"{name}: kernels are [out, in] and were transposed")
        if answer.notes["ignored"]:
            out.append(f"{name}: not in `names`, left out: {', '.join(answer.notes['ignored'])}")
        given = {key for update in answer.updates for key in update}
        missing = [term for term in term_names(algorithm) if term not in given]
        kinds = {"grad/": "gradients", "adam/mu/": "Adam's moments"}
        missing += [text for start, text in kinds.items() if not any(
            key.startswith(start) for key in given)]  # fmt: skip
        if missing:
            out.append(f"{name}: not given, not compared: {', '.join(missing)}")
    return out
