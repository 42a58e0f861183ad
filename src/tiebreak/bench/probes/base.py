"""Interfaces between the worker and what it measures: a subject builds probes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np


class Recount(NamedTuple):
    """Work of one further call, counted twice."""

    claimed: Mapping[str, int]
    """As counted by the code under test."""
    seen: Mapping[str, int]
    """As seen from outside, of what can be seen."""
    moved: bool
    """The call has changed the weights, or they are not known."""


@dataclass
class Probe:
    """A callable to be timed, with what is needed to check that its calls did the work."""

    unit: str
    """Unit of its work, e.g. `env steps`."""
    units_per_call: int
    call: Callable[[], Any]
    """Do the work. The result may still be computing when it returns."""
    state: Callable[[], Any] = tuple
    """Return the state that calls leave behind; it is waited for together with their results."""
    expected: Mapping[str, int] = field(default_factory=dict)
    """Work of one call, e.g. `{"env_steps": 64, "updates": 4}`."""
    counted: Callable[[], dict[str, int]] = dict
    """Return the work done so far, as counted by the code under test."""
    recount: Callable[[], Recount] | None = None
    """Do one more call, off the clock, and count it from outside, too."""
    weights: Callable[[], Mapping[str, np.ndarray]] = dict
    """Return the weights, for a checksum."""
    learns: bool = False
    """Calls have to change the weights."""
    numbers: Callable[[Any], dict[str, float]] = lambda output: {}
    """Return named numbers of a call's output that have to be finite."""
    inputs: Callable[[], Iterable[np.ndarray]] = tuple
    """Return the inputs of calls that the probe itself made; none may be constant. What an
    environment observes is the task's own, and may be: a bandit's is."""
    varies: Callable[[], bool] | None = None
    """Return whether outputs depend on inputs and weights; for probes that do not learn."""
    compiles: bool = False
    """Compiling is part of the work: it is allowed and not flagged."""
    once: bool = False
    """It is one call, timed from the start of the process: nothing is warmed up."""


class Subject(Protocol):
    """Code under measurement in one run: built from a job, it provides the probes of its cells.

    Optional: `lock() -> context manager` in which retracing is an error, `fallbacks() -> {flag:
    count}` of compiled code that ran uncompiled, `threads`, the number that it has set, and
    `compiles_later`: if true, compiling after the warm-up is no error.
    """

    def load(self) -> None:
        """Import packages and set the threads: the phase `import`."""

    def build(self) -> None:
        """Make everything that probes need: the phase `build`."""

    def probe(self, name: str) -> Probe:
        """Return a probe."""
        ...

    def sync(self, tree: Any) -> None:
        """Wait until all arrays of a tree are computed."""

    def compile_count(self) -> int:
        """Return the number of compilations in this process so far."""
        ...

    def settings(self) -> dict[str, Any]:
        """Return effective settings, read back from the library; empty if there are none."""
        ...

    def memory(self) -> dict[str, int]:
        """Return the library's own counts: live_bytes, peak_bytes; empty if it has none."""
        ...

    def close(self) -> None:
        """Release all resources."""
