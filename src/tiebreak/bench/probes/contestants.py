"""Measure implementations that are not ours: a row of a race that names a contestant.

A suite names one by `contestant = "module:function"`. The function makes an object with the methods
of `Contestant`; the row's `packages` are those that it may import. Nothing proves that a contestant
computes what our agents compute, so that its label ends with "(not proved)"; its counted
environment steps are compared with those asked for.
"""

from __future__ import annotations

from typing import Any, Protocol

from tiebreak import registry
from tiebreak.bench.probes.base import Probe
from tiebreak.bench.probes.subject import resolve_config
from tiebreak.bench.suite.plan import Cell, Job

STEPS_PER_CALL = 10_000
"""About how many environment steps one call trains, as our loops do."""


class Contestant(Protocol):
    """Another library's agent in training."""

    def train(self, env_steps: int) -> None:
        """Take this many environment steps, with the updates that belong to them, and finish them.

        Return when everything is computed: the harness cannot synchronise another library.
        """

    def counts(self) -> dict[str, int]:
        """Return the work done so far: `env_steps`, and what else the library counts."""
        ...

    def close(self) -> None:
        """Release environments and processes."""


class MakeContestant(Protocol):
    """The function that a suite names."""

    def __call__(self, cell: Cell, config: Any, seed: int, threads: int) -> Contestant:
        """Make a contestant for a cell's task, with the algorithm's settings in `config`."""
        ...


class ContestantSubject:
    """A contestant as the worker measures it; see probes/base.py:Subject."""

    def __init__(self, job: Job):
        self.cell = job.cells[0]
        self.seed, self.threads = job.seed, job.threads

    def load(self) -> None:
        """Import the contestant's module, and the engine for the facts of its task."""
        module, _, function = self.cell.contestant.partition(":")
        self._make: MakeContestant = getattr(registry.load(module), function)
        registry.load(self.cell.engine.module)

    def build(self) -> None:
        """Make the contestant, without training it."""
        self.config = resolve_config(self.cell)
        self.contestant = self._make(self.cell, self.config, self.seed, self.threads)

    def probe(self, name: str) -> Probe:
        """Build the probe `train`: whole iterations of the algorithm in a call."""
        iteration_steps = self.config.iteration_steps
        steps = iteration_steps * max(1, STEPS_PER_CALL // iteration_steps)
        return Probe(
            unit="env steps",
            units_per_call=steps,
            call=lambda: self.contestant.train(steps),
            expected={"env_steps": steps},
            counted=lambda: dict(self.contestant.counts()),
        )

    def sync(self, tree: Any) -> None:
        """Do nothing: `Contestant.train` returns when it has finished."""

    def compile_count(self) -> int:
        """Return 0: compilations of other libraries are not counted."""
        return 0

    def settings(self) -> dict[str, Any]:
        """Return nothing: settings of other libraries are not read back."""
        return {}

    def memory(self) -> dict[str, int]:
        """Return nothing: the system's counts are used."""
        return {}

    def close(self) -> None:
        """Release the contestant."""
        self.contestant.close()
