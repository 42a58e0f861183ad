"""Terms of an update in the order in which they are computed, and known deviations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, NamedTuple

from tiebreak import registry
from tiebreak.core.errors import UsageError, unknown

GRADIENT, MEAN, SQUARE, TARGET = "grad/", "adam/mu/", "adam/nu/", "target/"
"""Prefixes of a weight's name: its gradient, Adam's two moments, and its target copy."""


class Stage(NamedTuple):
    """A function of the oracle that returns terms and gradients."""

    function: str
    terms: dict[str, str]
    """Field of its terms -> name of the term; in the order in which they are computed."""
    optimizers: tuple[str, ...]
    """Optimizers that step by its gradients, as in NETWORKS of the algorithm's data.py."""


class Deviation(NamedTuple):
    """A decision of the specification, changed as some library has it."""

    decision: str
    """Its tag in the specification, such as D6; `setting` for a number."""
    text: str
    """What is computed instead."""
    seen_in: str = ""
    """Libraries that compute it so."""
    change: Callable[[ModuleType], None] | None = None
    """Replaces functions in a copy of the oracle."""
    settings: Mapping[str, Any] = {}
    """Settings of the configuration that are changed."""


@dataclass(frozen=True)
class Rules:
    """How agents of one algorithm are compared."""

    settings: dict[str, Any]
    """Settings of the problem, all small; an agent may change them."""
    stages: tuple[Stage, ...]
    deviations: tuple[Deviation, ...]
    adam: str
    """Tag of the decision about Adam."""
    clipping: str
    """Tag of the decision about clipping gradients."""
    calls: int = 4
    """Updates that are compared."""
    first_terms: tuple[str, ...] = ()
    """Terms that are computed before the first stage."""
    rows: dict[str, Callable[[tuple, Any], dict[str, Any]]] = field(default_factory=dict)
    """Function of the oracle -> terms with one number per row, from its arguments and result."""
    iteration: bool = False
    """An update is one `step` of the oracle: all epochs and minibatches."""
    target_after: str = ""
    """Optimizer after whose step target networks move; empty: they move last."""


def rules_of(algorithm: str) -> Rules:
    """Return an algorithm's rules; raise UsageError if there are none."""
    offered = [name for name, row in registry.ALGORITHMS.items() if row.against]
    if algorithm not in offered:
        raise unknown("algorithm for --against", algorithm, offered)
    return registry.load(registry.ALGORITHMS[algorithm].against).RULES


def optimizer_of(algorithm: str, name: str) -> str:
    """Return the optimizer that trains a weight; empty if none does."""
    networks = registry.data_module(algorithm).NETWORKS
    first = name.partition("/")[0]
    return next((key for key, names in networks.items() if first in names), "")


def label_of(algorithm: str, name: str) -> str:
    """Return the row of the table that an array belongs to; terms have their own names."""
    for prefix, text in ((GRADIENT, "gradient of"), (MEAN, "Adam of"), (SQUARE, "Adam of")):
        if name.startswith(prefix):
            return f"{text} {optimizer_of(algorithm, name.removeprefix(prefix))}"
    if name.startswith("adam/"):
        return "update counts"
    if name.startswith(TARGET):
        return "target networks"
    optimizer = optimizer_of(algorithm, name)
    return f"weights of {optimizer}" if optimizer else name


def labels(algorithm: str) -> list[str]:
    """Return all rows of the table, in the order in which an update computes them."""
    rules = rules_of(algorithm)
    out = list(rules.first_terms)
    for stage in rules.stages:
        out += [name for name in stage.terms.values() if name not in out]
        for kind in ("gradient of", "Adam of", "weights of"):
            out += [f"{kind} {optimizer}" for optimizer in stage.optimizers]
        if rules.target_after in stage.optimizers:
            out.append("target networks")
    if not rules.target_after:
        out.append("target networks")
    return [*out, "update counts"]


def term_names(algorithm: str) -> list[str]:
    """Return the names of the terms that an agent's `update` may return, without gradients."""
    rules = rules_of(algorithm)
    names = [*rules.first_terms, *(n for stage in rules.stages for n in stage.terms.values())]
    return list(dict.fromkeys(names))


def require_terms(algorithm: str, names: Iterable[str]) -> None:
    """Raise UsageError for a name that is no term of the algorithm."""
    valid = term_names(algorithm)
    for name in names:
        if name not in valid:
            raise unknown(
                f"term of {algorithm}", name, valid, "Gradients are below 'grad': {name: array}."
            )


def require_settings(settings: Any) -> Mapping[str, Any]:
    """Return an agent's settings if they can be followed; raise UsageError otherwise."""
    if not isinstance(settings, Mapping):
        raise UsageError("settings of an agent are a dictionary, as {'hidden_sizes': (64, 64)}")
    for name in ("normalize_obs", "normalize_reward"):
        if settings.get(name):
            raise UsageError(
                f"{name} is not compared by --against: agents get observations and rewards as "
                "their networks and losses see them; leave it out"
            )
    return settings
