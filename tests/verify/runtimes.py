"""Runtimes for proofs in the process of the tests, where Keras can have one backend only."""

from __future__ import annotations

from typing import Any

from tiebreak import registry
from tiebreak.frameworks.keras import backend
from tiebreak.verify import worker


def library_here() -> str:
    """Return the backend of Keras where something has imported it already, else torch."""
    return backend.library_here() or "torch"


def packages_of(framework: str) -> tuple[str, ...]:
    """Return what must be installed for a framework, in this process."""
    return registry.framework(framework).packages_in(library_here())


def eager_runtime(framework: str, precision: str) -> Any:
    """Return a runtime that runs op by op."""
    return worker.make_runtime(framework, "eager", precision, library_here())


def inner_runtime(framework: str, precision: str = "float64") -> Any:
    """Return a runtime in the mode in which certificates check parts of a step."""
    only_mode = "" if registry.framework(framework).runtime else library_here()
    mode = worker.inner_mode(framework, only_mode)
    return worker.make_runtime(framework, mode, precision, only_mode)
