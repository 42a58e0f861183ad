"""Measure implementations that are not ours: a row of a race that names a contestant.

A suite names one by `peer = "sb3"` (peers/table.py) or by `contestant = "module:function"`. The
function makes an object with the methods of `Contestant`; the row's `packages` are those that it
may import, and with `python` it runs in an environment of its own. There this worker's source is
lent to it (manager/worker_env.py), which needs NumPy and psutil only.

Nothing proves that a contestant computes what our agents compute, so that its label ends with
"(not proved)". The work that it claims is compared with what was asked for, and, in one call off
the clock, with what can be seen from outside (probes/watch.py).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from tiebreak import registry
from tiebreak.bench.probes import watch
from tiebreak.bench.probes.base import Probe
from tiebreak.bench.probes.solve import solve_contestant
from tiebreak.bench.suite.plan import Cell, Job
from tiebreak.core import user_modules
from tiebreak.core.config import override

STEPS_PER_CALL = 10_000
"""About how many environment steps a call trains on a device engine, as our fused loops do. On a
host engine a call is one iteration, as ours is there."""


class Contestant(Protocol):
    """Another library's agent in training.

    Optional: `weights() -> {name: array}`, nested or not, which have to change; `act(obs)`, the
    greedy actions for observations [N, …], for the probe `solve`; `settings() -> dict`, read back
    from the library, of which `threads` is compared with the number that it was given (torch's is
    known without it); `steps_per_call`, if it cannot train as few steps in a call as are asked for;
    and `compiles_optimizers`, if steps of torch's optimizers are part of compiled programs.

    For the probe `population` it trains `cell.agents` agents, of each of which steps are asked for;
    its counts are of all.
    """

    def train(self, env_steps: int) -> None:
        """Take this many environment steps, with the updates that belong to them, and finish them.

        Return when everything is computed: the harness cannot synchronise another library.
        """

    def counts(self) -> dict[str, int]:
        """Return the work done so far: `env_steps`, and `updates` if they are to be as many as our
        algorithm does; anything else is recorded.
        """
        ...

    def close(self) -> None:
        """Release environments and processes."""


class MakeContestant(Protocol):
    """The function that a suite names."""

    def __call__(self, cell: Cell, config: Any, seed: int, threads: int) -> Contestant:
        """Make a contestant for a cell's task, with the algorithm's settings in `config`.

        It has `threads` threads, which the environment variables of OpenMP and others say, too.
        """
        ...


class ContestantSubject:
    """A contestant as the worker measures it; see probes/base.py:Subject."""

    compiles_later = True
    """Libraries compile when an episode is cut for the first time, for example: the number of
    compilations is recorded, and is no error."""

    def __init__(self, job: Job):
        self.job, self.cell = job, job.cells[0]
        self.threads = job.threads

    def load(self) -> None:
        """Import the contestant's module."""
        if self.job.checkout:
            sys.path.insert(0, self.job.checkout)
        module, _, function = self.cell.contestant.partition(":")
        with self._searched():
            self._make: MakeContestant = getattr(registry.load(module), function)

    def build(self) -> None:
        """Make the contestant, without training it."""
        defaults = registry.config_module(self.cell.algorithm).Config()
        self.config = override(defaults, self.job.algorithm_settings)
        with self._searched():
            self.contestant: Any = self._make(self.cell, self.config, self.job.seed, self.threads)

    def _searched(self) -> AbstractContextManager[None]:
        """Search the user's folder for modules inside, unless it is an adapter of ours."""
        return user_modules.searched(not self.cell.peer)

    def probe(self, name: str) -> Probe:
        """Build the probe `train` or `population`, of whole iterations in a call, or `solve`."""
        if name == "solve":
            return solve_contestant(self)
        config, contestant, agents = self.config, self.contestant, self.cell.agents
        iterations = self._iterations_per_call()
        steps = iterations * config.iteration_steps
        warmup = getattr(config, "warmup_iterations", 0)
        if warmup:  # fill the replay, off the clock
            contestant.train(warmup * config.iteration_steps)

        updates = iterations * config.updates_per_iteration
        expected = {"env_steps": agents * steps, "updates": agents * updates}
        counted = contestant.counts()
        return Probe(
            unit="env steps",
            units_per_call=agents * steps,
            call=lambda: contestant.train(steps),
            expected={name: number for name, number in expected.items() if name in counted},
            counted=lambda: dict(contestant.counts()),
            weights=self.weights,
            learns=self.has_weights,
            recount=lambda: watch.recount(
                lambda: contestant.train(steps),
                contestant.counts,
                expected,
                self.weights,
                optimizers=not getattr(contestant, "compiles_optimizers", False),
            ),
        )

    @property
    def has_weights(self) -> bool:
        """Return True if the contestant shows its weights."""
        return hasattr(self.contestant, "weights")

    def weights(self) -> dict[str, np.ndarray]:
        """Return the contestant's weights by name; none if it does not show them."""
        return _arrays(self.contestant.weights()) if self.has_weights else {}

    def _iterations_per_call(self) -> int:
        """Return the iterations of a call: those of our loops, or as many as the contestant can."""
        iteration_steps = self.config.iteration_steps
        own = getattr(self.contestant, "steps_per_call", 0)
        if own:
            return max(1, own // iteration_steps)
        if self.cell.engine.kind == "host":
            return 1
        return max(1, STEPS_PER_CALL // (self.cell.agents * iteration_steps))

    def sync(self, tree: Any) -> None:
        """Do nothing: `Contestant.train` returns when it has finished."""

    def compile_count(self) -> int:
        """Return the number of programs that JAX and TorchDynamo have compiled so far."""
        return watch.compile_count()

    def settings(self) -> dict[str, Any]:
        """Return what is read back from its library, and how often it compiled."""
        own = getattr(self.contestant, "settings", dict)()
        return {**watch.settings(), **own, "compilations": watch.compile_count()}

    def memory(self) -> dict[str, int]:
        """Return nothing: the system's counts are used."""
        return {}

    def close(self) -> None:
        """Release the contestant."""
        self.contestant.close()


def _arrays(tree: Any, name: str = "") -> dict[str, np.ndarray]:
    """Return the arrays of nested mappings and sequences, with their paths as names."""
    if isinstance(tree, Mapping):
        items: Iterable[tuple[Any, Any]] = tree.items()
    elif isinstance(tree, list | tuple):
        items = enumerate(tree)
    else:
        return {name: np.asarray(tree)}
    arrays: dict[str, np.ndarray] = {}
    for key, value in items:
        arrays |= _arrays(value, f"{name}/{key}")
    return arrays
