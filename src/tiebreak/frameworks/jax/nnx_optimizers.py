"""NNX keeps in an agent's state what its optimizers compute, where the other frameworks do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flax import nnx


def rules_of(state: Any) -> list[Any]:
    """The optax transformations of a state's optimizers."""
    return [optimizer.tx for optimizer in _optimizers(state)]


def put_rules(state: Any, rules: Sequence[Any]) -> None:
    """The same in another state of this kind; in place."""
    for optimizer, rule in zip(_optimizers(state), rules, strict=True):
        optimizer.tx = rule


def _optimizers(state: Any) -> list[nnx.Optimizer]:
    return [node for _, node in nnx.iter_graph(state) if isinstance(node, nnx.Optimizer)]
