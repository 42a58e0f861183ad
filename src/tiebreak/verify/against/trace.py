"""Run the oracle, as it is or with known deviations, and record every term of every update."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.frameworks.numpy.ops import to_float64
from tiebreak.verify.against.problem import Call, Problem
from tiebreak.verify.against.rules import GRADIENT, Deviation, Rules, Stage, rules_of
from tiebreak.verify.case import cast

Trace = list[dict[str, np.ndarray]]
"""For each update, its terms and gradients, and the weights after it, by canonical name."""


def copy_of_oracle(algorithm: str) -> ModuleType:
    """Return a copy of an algorithm's oracle, so that functions in it can be replaced."""
    name = registry.oracle_module(algorithm).__name__
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def trace_oracle(
    problem: Problem,
    deviations: Sequence[Deviation] = (),
    weights: dict[str, np.ndarray] | None = None,
) -> Trace:
    """Return the trace of the oracle, with some decisions changed.

    weights: where to start, if not at those of the problem.
    """
    *_, trace = growing_trace(problem, deviations, weights)
    return trace


def growing_trace(
    problem: Problem,
    deviations: Sequence[Deviation] = (),
    weights: dict[str, np.ndarray] | None = None,
) -> Iterator[Trace]:
    """Yield the trace of the oracle after every group of updates, for those who may stop early."""
    case, rules = problem.case, rules_of(problem.algorithm)
    oracle, config = copy_of_oracle(problem.algorithm), case.config
    for deviation in deviations:
        config = dataclasses.replace(config, **deviation.settings)
        if deviation.change:
            deviation.change(oracle)
    recorder = Recorder(oracle, rules)
    state = to_float64(problem.weights) if weights is None else weights
    run = oracle.step if rules.iteration else oracle.update
    size = problem.calls_per_group
    for first in range(0, len(problem.calls), size):
        group = problem.calls[first : first + size]
        recorder.begin()
        vars(oracle)["more_noise"] = iter(cast(group[0].more, "float64"))
        state, _ = run(case.spec, config, state, *_arguments(group, size > 1))
        recorder.end(state)
        yield recorder.updates


def _arguments(group: Sequence[Call], stacked: bool) -> tuple[Any, Any]:
    """Return batch and noise in float64, with an axis of updates if the oracle wants one."""
    if not stacked:
        return cast(group[0].batch, "float64"), cast(group[0].noise, "float64")
    columns = []
    for trees in ([call.batch for call in group], [call.noise for call in group]):
        stack = type(trees[0])(*(np.stack(column) for column in zip(*trees, strict=True)))
        columns.append(cast(stack, "float64"))
    return columns[0], columns[1]


class Recorder:
    """Keeps what the functions of an oracle return, update by update."""

    def __init__(self, oracle: ModuleType, rules: Rules):
        self.updates: Trace = []
        self._weights: dict[str, np.ndarray] = {}
        self._rows: dict[str, Any] = {}
        self._split_at = "" if rules.iteration else rules.stages[0].function
        functions = vars(oracle)
        functions["next_update"] = self.next
        for stage in rules.stages:
            functions[stage.function] = self._stage(stage, functions[stage.function])
        for name, extract in rules.rows.items():
            functions[name] = self._per_row(extract, functions[name])
        if "optimize" in functions:
            functions["optimize"] = self._moving(functions["optimize"], pair=True)
        if "polyak" in functions:
            functions["polyak"] = self._moving(functions["polyak"], pair=False)

    def begin(self) -> None:
        """Begin the record of an update."""
        self.updates.append({})
        self._seen: set[str] = set()

    def end(self, weights: dict[str, np.ndarray]) -> None:
        """End the record of an update with the weights after it."""
        self.updates[-1].update({name: np.asarray(value) for name, value in weights.items()})

    def next(self, weights: dict[str, np.ndarray]) -> None:
        """End the record of an update and begin the next of its group."""
        self.end(weights)
        self.begin()

    def _stage(self, stage: Stage, function: Callable) -> Callable:
        def call(*arguments: Any) -> Any:
            if stage.function == self._split_at and stage.function in self._seen:
                self.next(self._weights)
            self._seen.add(stage.function)
            terms, grads = function(*arguments)
            record = self.updates[-1]
            record.update({name: getattr(terms, key) for key, name in stage.terms.items()})
            record.update(self._rows)
            record.update({GRADIENT + name: value for name, value in grads.items()})
            return terms, grads

        return call

    def _per_row(self, extract: Callable, function: Callable) -> Callable:
        def call(*arguments: Any) -> Any:
            out = function(*arguments)
            self._rows = extract(arguments, out)
            return out

        return call

    def _moving(self, function: Callable, pair: bool) -> Callable:
        """Keep the weights that a function returns, alone or as the first of a pair."""

        def call(*arguments: Any, **options: Any) -> Any:
            out = function(*arguments, **options)
            self._weights = out[0] if pair else out
            return out

        return call
